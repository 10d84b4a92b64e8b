"""API tokens: kept as hashes, with the role of whoever holds one, and found by the hash."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.domain.roles import Caller, Role
from worker.domain.secret import Secret
from worker.storage.database import read_one

#: The last use is written at most this often: who asks a hundred times a second must not write as often.
USE_NOTED_EVERY: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiTokenView:
    """An API token without anything that would let somebody use it."""

    id: UUID
    name: str | None
    role: Role
    client: str | None
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundToken:
    """Whose a token is."""

    caller: Caller
    is_use_due: bool  #: its use has not been noted for a while
    seconds_left: float  #: of its life; infinite where it has no end


_ADD: Final = text("""
    INSERT INTO api_tokens (id, name, token_hash, role, client, expires_at)
    VALUES (:id, :name, :token_hash, :role, :client, now() + CAST(:lifetime AS interval))
""")
_FIND: Final = text("""
    SELECT id, name, role, client, CAST(extract(epoch FROM expires_at - now()) AS float8) AS seconds_left,
           last_used_at IS NULL OR last_used_at < now() - CAST(:every AS interval) AS is_use_due
      FROM api_tokens
     WHERE token_hash = :token_hash AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
""")
_NOTE_USE: Final = text("""
    UPDATE api_tokens SET last_used_at = now()
     WHERE id = :id AND (last_used_at IS NULL OR last_used_at < now() - CAST(:every AS interval))
""")
_LIST: Final = text("""
    SELECT id, name, role, client, created_at, expires_at, last_used_at, revoked_at
      FROM api_tokens WHERE CAST(:client AS text) IS NULL OR client = CAST(:client AS text) ORDER BY created_at, id
""")
_REVOKE: Final = text("""
    UPDATE api_tokens SET revoked_at = now()
     WHERE id = :id AND revoked_at IS NULL AND (CAST(:client AS text) IS NULL OR client = CAST(:client AS text))
    RETURNING id
""")


class ApiTokens:
    """Adds API tokens, finds whose one is, and revokes them.

    Args:
        engine: the process's connections.
        reads: made by `create_read_engine`.

    """

    def __init__(self, engine: AsyncEngine, reads: AsyncEngine) -> None:
        self._engine = engine
        self._reads = reads

    async def add(
        self,
        token_id: UUID,
        token: Secret,
        *,
        role: Role,
        client: str | None,
        name: str | None,
        lifetime: timedelta | None,
    ) -> None:
        """Remember a token by its hash; without a lifetime it is good until it is revoked."""
        columns = {
            "id": token_id,
            "name": name,
            "token_hash": token_hash(token),
            "role": role.value,
            "client": client,
            "lifetime": lifetime,
        }
        async with self._engine.begin() as connection:
            await connection.execute(_ADD, columns)

    async def find(self, which: bytes) -> FoundToken | None:
        """Return whose the token of a hash is; None where it is unknown, expired or revoked."""
        # Found by hash: what an index lookup tells by its time is of no use to whoever cannot make the hash.
        row = await read_one(self._reads, _FIND, {"token_hash": which, "every": USE_NOTED_EVERY})
        if row is None:
            return None
        return FoundToken(
            caller=Caller(id=row.id, name=row.name, role=Role(row.role), client=row.client),
            is_use_due=row.is_use_due,
            seconds_left=row.seconds_left if row.seconds_left is not None else math.inf,
        )

    async def note_use(self, token_id: UUID) -> None:
        """Note that a token was used, unless that was noted a moment ago."""
        async with self._engine.begin() as connection:
            await connection.execute(_NOTE_USE, {"id": token_id, "every": USE_NOTED_EVERY})

    async def list(self, *, client: str | None = None) -> Sequence[ApiTokenView]:
        """Return all tokens, the oldest first, those that are good no more included; of a client alone where given."""
        async with self._engine.connect() as connection:
            return [
                ApiTokenView(**{**row._mapping, "role": Role(row.role)})  # noqa: SLF001 -- SQLAlchemy's public name
                for row in await connection.execute(_LIST, {"client": client})
            ]

    async def revoke(self, token_id: UUID, *, client: str | None = None) -> bool:
        """End a token, one bound to a client alone where it is given; tell whether there was such a one still good."""
        async with self._engine.begin() as connection:
            return (await connection.execute(_REVOKE, {"id": token_id, "client": client})).first() is not None


def token_hash(token: Secret) -> bytes:
    """Return what a token is known by."""
    # A token holds 256 random bits, so a plain hash is as good as a slow one; what is no token at all may hold halves
    # of surrogate pairs.
    return hashlib.sha256(token.reveal().encode("utf-8", "surrogatepass")).digest()
