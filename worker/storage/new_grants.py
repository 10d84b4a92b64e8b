"""New rows for grants, one or a thousand in a statement, each with its event; none where there is one already."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.domain.account import ToldAccount
from worker.domain.secret import Secret
from worker.storage.sealing import ACCESS_TOKEN, REFRESH_TOKEN, KeyRing


@dataclass(frozen=True, slots=True, kw_only=True)
class NewGrant:
    """Tokens and their instants, to become a grant. Instants are the database's."""

    client: str
    subject: str
    refresh_token: Secret
    access_token: Secret | None
    issued_at: datetime | None
    access_expires_at: datetime | None
    refresh_expires_at: datetime | None
    rotate_at: datetime
    scopes: tuple[str, ...] | None
    email: str | None
    account: ToldAccount = field(default_factory=ToldAccount)
    captured: Mapping[str, str] = field(default_factory=dict)  #: what the provider's facts say to keep
    requested: tuple[str, ...] = ()  #: the scopes that were asked for: what is missing of them was taken away


#: The columns of a row that is written, and what each is in JSON; sealed ones are hexadecimal there.
_COLUMNS: Final = {
    "id": "uuid",
    "client": "text",
    "subject": "text",
    "refresh_token": "text",
    "access_token": "text",
    "issued_at": "timestamptz",
    "access_expires_at": "timestamptz",
    "refresh_expires_at": "timestamptz",
    "rotate_at": "timestamptz",
    "scopes": "text[]",
    "email": "text",
    "account": "text",
    "account_source": "text",
    "captured": "jsonb",
    "consented_at": "timestamptz",
}
_SEALED: Final = ("refresh_token", "access_token")
_INSTANTS: Final = tuple(name for name, kind in _COLUMNS.items() if kind == "timestamptz")
_NAMES: Final = ", ".join(_COLUMNS)
_VALUES: Final = ", ".join(f"decode({name}, 'hex')" if name in _SEALED else name for name in _COLUMNS)
_TYPES: Final = ", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())

# One statement and one parameter for a thousand rows as for one: their arrays would take the driver ten times as long.
_INSERT: Final = text(f"""
    WITH added AS (
        INSERT INTO grants (state, {_NAMES})
        SELECT 'active', {_VALUES} FROM json_to_recordset(CAST(:rows AS json)) AS offered ({_TYPES})
        ON CONFLICT (client, subject) DO NOTHING
        RETURNING id, client, subject)
    INSERT INTO events (type, client, grant_id, subject)
    SELECT 'grant.created', client, id, subject FROM added
    RETURNING grant_id
""")  # noqa: S608 -- every inserted part is a constant of this module


async def insert_grants(
    connection: AsyncConnection, keys: KeyRing, offered: Sequence[tuple[UUID, NewGrant, datetime | None]]
) -> set[UUID]:
    """Insert grants, except where a client and subject have one.

    Args:
        connection: in a transaction.
        keys: seal their tokens.
        offered: the id of each, the grant, and when its owner consented, as far as that is known.

    Returns:
        The ids that were inserted.

    """
    rows = [_in_json(sealed_columns(keys, *one)) for one in offered]
    return set((await connection.execute(_INSERT, {"rows": json.dumps(rows)})).scalars())


def sealed_columns(keys: KeyRing, grant_id: UUID, grant: NewGrant, consented_at: datetime | None) -> dict[str, Any]:
    """Return what a grant's row holds, its tokens sealed for that row."""
    access_token, row = grant.access_token, str(grant_id)
    return {
        "id": grant_id,
        "client": grant.client,
        "subject": grant.subject,
        "refresh_token": keys.seal(grant.refresh_token, REFRESH_TOKEN, row),
        "access_token": keys.seal(access_token, ACCESS_TOKEN, row) if access_token is not None else None,
        "issued_at": grant.issued_at,
        "access_expires_at": grant.access_expires_at,
        "refresh_expires_at": grant.refresh_expires_at,
        "rotate_at": grant.rotate_at,
        "scopes": list(grant.scopes) if grant.scopes is not None else None,
        "email": grant.email,
        "account": grant.account.id,
        "account_source": grant.account.source if grant.account.id is not None else None,
        "captured": dict(grant.captured) or None,
        "consented_at": consented_at,
    }


def _in_json(columns: dict[str, Any]) -> dict[str, Any]:
    columns["id"] = str(columns["id"])
    for name in _SEALED:
        if columns[name] is not None:
            columns[name] = columns[name].hex()
    for name in _INSTANTS:
        if columns[name] is not None:
            columns[name] = columns[name].isoformat()
    return columns
