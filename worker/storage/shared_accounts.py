"""Accounts that several grants of a client are for: told where it happens, and looked at before one is given back."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

# Many providers end the older authorization of an account, or the oldest of several, without a word.
_TELL_SHARED: Final = text("""
    WITH others AS (
        SELECT id FROM grants
         WHERE client = :client AND account = :account AND id <> :id
           AND state IN ('active', 'in_doubt', 'suspect', 'paused'))
    INSERT INTO events (type, client, grant_id, subject, data)
    SELECT 'grant.account_shared', client, id, subject, jsonb_build_object(
               'generation', generation, 'count', (SELECT count(*) FROM others),
               'grants', (SELECT jsonb_agg(id) FROM (SELECT id FROM others ORDER BY id LIMIT 10) AS named))
      FROM grants WHERE id = :id AND EXISTS (SELECT FROM others)
    RETURNING CAST(data ->> 'count' AS bigint)
""")
_HELD: Final = text("""
    SELECT EXISTS (
        SELECT FROM grants
         WHERE client = ANY(CAST(:clients AS text[])) AND (account = :account OR account IS NULL)
           AND state NOT IN ('reconsent_required', 'revoked'))
""")


async def tell_shared(connection: AsyncConnection, grant_id: UUID, client: str, account: str | None) -> int:
    """Leave an event where other living grants of the client are for a grant's account; return how many.

    Args:
        connection: in the transaction that stores the grant.
        grant_id: whose account it is.
        client: its client.
        account: None where nobody knows it, and so nobody shares it.

    """
    if account is None:
        return 0
    parameters = {"id": grant_id, "client": client, "account": account}
    return int((await connection.execute(_TELL_SHARED, parameters)).scalar_one_or_none() or 0)


class SharedAccounts:
    """Looks who else is for an account."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def is_held(self, clients: Collection[str], account: str) -> bool:
        """Tell whether a living grant of these clients is for an account, or may be, for nobody knows whose it is."""
        async with self._engine.connect() as connection:
            parameters = {"clients": list(clients), "account": account}
            return bool((await connection.execute(_HELD, parameters)).scalar_one())
