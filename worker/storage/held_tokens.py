"""The stored access token of one grant, and what decides whether it may be handed out: one indexed read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.domain.grant import GrantState
from worker.domain.secret import Secret
from worker.storage.database import read_one
from worker.storage.sealing import ACCESS_TOKEN, KeyRing


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldToken:
    """What is needed to hand out an access token, or to decide that a refresh comes first."""

    grant_id: UUID
    client: str
    state: GrantState
    state_reason: str | None
    generation: int
    access_token: Secret | None
    issued_at: datetime | None
    access_expires_at: datetime | None
    rotated_at: datetime | None
    rotate_at: datetime | None
    strikes: int
    leased: bool
    now: datetime  #: the database's clock at the reading


_COLUMNS: Final = """
    SELECT id, client, state, state_reason, generation, access_token, issued_at, access_expires_at,
           rotated_at, rotate_at, strikes, leased_until IS NOT NULL AS leased, now() AS now
      FROM grants
"""
_BY_ID: Final = text(f"{_COLUMNS} WHERE id = :id")
_BY_SUBJECT: Final = text(f"{_COLUMNS} WHERE client = :client AND subject = :subject")


class HeldTokens:
    """Reads stored access tokens.

    Args:
        engine: made by `create_read_engine`.
        keys: opens them.

    """

    def __init__(self, engine: AsyncEngine, keys: KeyRing) -> None:
        self._engine = engine
        self._keys = keys

    async def of_grant(self, grant_id: UUID) -> HeldToken | None:
        """Return a grant's access token and what goes with it, or None where there is none of that id.

        Raises:
            SealError: when the key ring does not open it.

        """
        return await self._read(_BY_ID, {"id": grant_id})

    async def of_subject(self, client: str, subject: str) -> HeldToken | None:
        """Return the same of the grant that a client has for a subject.

        Raises:
            SealError: when the key ring does not open it.

        """
        return await self._read(_BY_SUBJECT, {"client": client, "subject": subject})

    async def _read(self, statement: TextClause, which: dict[str, object]) -> HeldToken | None:
        row = await read_one(self._engine, statement, which)
        if row is None:
            return None
        sealed = row.access_token
        return HeldToken(
            grant_id=row.id,
            client=row.client,
            state=GrantState(row.state),
            state_reason=row.state_reason,
            generation=row.generation,
            access_token=self._keys.open(sealed, ACCESS_TOKEN, row.id) if sealed is not None else None,
            issued_at=row.issued_at,
            access_expires_at=row.access_expires_at,
            rotated_at=row.rotated_at,
            rotate_at=row.rotate_at,
            strikes=row.strikes,
            leased=row.leased,
            now=row.now,
        )
