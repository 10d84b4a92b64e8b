"""What an operator does to one grant: each act is one guarded UPDATE that leaves an event and says if it changed it.

A lease is left as it is. A request that is under way meanwhile settles: its tokens are stored, and the state stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import TextClause, func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.domain.grant import GrantState
from worker.domain.secret import Secret
from worker.storage.sealing import ACCESS_TOKEN, REFRESH_TOKEN, KeyRing
from worker.storage.tables import Grant


@dataclass(frozen=True, slots=True, kw_only=True)
class PausedGrant:
    """What decides how a paused grant goes on."""

    client: str
    state: GrantState
    doubt_since: datetime | None
    presentations: int
    issued_at: datetime | None
    access_expires_at: datetime | None
    now: datetime  #: the database's clock at the reading


@dataclass(frozen=True, slots=True, kw_only=True)
class TokensToGiveBack:
    """A revoked grant's tokens, and whether a request is under way that may replace them."""

    generation: int
    refresh_token: Secret | None  #: None: the secrets are erased
    access_token: Secret | None  #: some providers are asked with it
    captured: Mapping[str, str]  #: what was kept of redirects and answers, for the provider's placeholders
    leased: bool


def _act(update: str, where: str, event: str) -> TextClause:
    return text(f"""
        WITH changed AS (
            UPDATE grants SET {update}, state_since = now()
             WHERE id = :id AND {where}
            RETURNING id, client, subject, generation)
        INSERT INTO events (type, client, grant_id, subject, data)
        SELECT '{event}', client, id, subject, jsonb_build_object('generation', generation, 'reason', 'operator')
          FROM changed
        RETURNING grant_id
    """)  # noqa: S608 -- every inserted part is a constant of this module


_PAUSE: Final = _act(
    "state = 'paused', state_reason = 'operator', rotate_at = NULL",
    "state IN ('active', 'in_doubt', 'suspect')",
    "grant.paused",
)
# What was learned of a doubt while the grant was paused must not be overlooked. Its strikes are: it is tried when it is
# due, and not when the interval after the last one ends.
_RESUME: Final = _act(
    """
    state = CASE WHEN doubt_since IS NULL THEN 'active' ELSE 'in_doubt' END,
    state_reason = CASE WHEN doubt_since IS NULL THEN NULL ELSE 'no_answer' END,
    strikes = 0, rotate_at = :rotate_at
    """,
    "state = 'paused' AND presentations = :presentations AND doubt_since IS NOT DISTINCT FROM CAST(:doubt_since AS"
    " timestamptz)",
    "grant.resumed",
)
_REVOKE: Final = _act(
    "state = 'revoked', state_reason = 'operator', rotate_at = NULL", "state <> 'revoked'", "grant.revoked"
)
# By an operator's word, and so without a source: it is compared with whatever the next consent tells.
_SET_ACCOUNT: Final = text("""
    WITH changed AS (
        UPDATE grants SET account = :account, account_source = NULL
         WHERE id = :id AND account IS DISTINCT FROM :account
        RETURNING id, client, subject, generation)
    INSERT INTO events (type, client, grant_id, subject, data)
    SELECT 'grant.account_changed', client, id, subject,
           jsonb_build_object('generation', generation, 'reason', 'operator')
      FROM changed
    RETURNING grant_id
""")
# What came meanwhile, by a late answer, is another generation and still to be given back. One that comes later finds no
# lease of its own any more: it is superseded, and whoever read it gives it back where that is safe.
_ERASE: Final = text("""
    UPDATE grants SET access_token = NULL, refresh_token = '', captured = NULL, lease_id = NULL
     WHERE id = :id AND state = 'revoked' AND generation = :generation AND leased_until IS NULL
    RETURNING id
""")
_SET_EMAIL: Final = text("UPDATE grants SET email = :email WHERE id = :id RETURNING id")


class OperatorActs:
    """Pauses, resumes and ends single grants."""

    def __init__(self, engine: AsyncEngine, keys: KeyRing) -> None:
        self._engine = engine
        self._keys = keys

    async def pause(self, grant_id: UUID) -> bool:
        """Keep a grant from being refreshed, until it is resumed; tell whether that changed anything."""
        return await self._change(_PAUSE, {"id": grant_id})

    async def paused(self, grant_id: UUID) -> PausedGrant | None:
        """Return what decides how a grant goes on, or None where there is none of that id."""
        statement = select(
            Grant.client,
            Grant.state,
            Grant.doubt_since,
            Grant.presentations,
            Grant.issued_at,
            Grant.access_expires_at,
            func.now().label("now"),
        ).where(Grant.id == grant_id)
        async with self._engine.connect() as connection:
            row = (await connection.execute(statement)).one_or_none()
        if row is None:
            return None
        return PausedGrant(
            client=row.client,
            state=GrantState(row.state),
            doubt_since=row.doubt_since,
            presentations=row.presentations,
            issued_at=row.issued_at,
            access_expires_at=row.access_expires_at,
            now=row.now,
        )

    async def resume(self, grant_id: UUID, found: PausedGrant, rotate_at: datetime) -> bool:
        """Let a paused grant go on, due at an instant, in doubt where it was; False where it has changed since."""
        guard = {"id": grant_id, "presentations": found.presentations, "doubt_since": found.doubt_since}
        return await self._change(_RESUME, {**guard, "rotate_at": rotate_at})

    async def revoke(self, grant_id: UUID) -> bool:
        """End a grant on purpose: it is not refreshed any more; tell whether that changed anything."""
        return await self._change(_REVOKE, {"id": grant_id})

    async def erase_secrets(self, grant_id: UUID, generation: int) -> bool:
        """Erase the tokens of a revoked grant; False where it has others by now, or is not revoked any more."""
        return await self._change(_ERASE, {"id": grant_id, "generation": generation})

    async def set_email(self, grant_id: UUID, email: str | None) -> bool:
        """Note where the owner can be reached; tell whether there is such a grant."""
        return await self._change(_SET_EMAIL, {"id": grant_id, "email": email})

    async def set_account(self, grant_id: UUID, account: str | None) -> bool:
        """Say whose account a grant is for, None to let its next consent say so; tell whether that changed anything."""
        return await self._change(_SET_ACCOUNT, {"id": grant_id, "account": account})

    async def to_give_back(self, grant_id: UUID) -> TokensToGiveBack | None:
        """Return a revoked grant's newest tokens, to be given back; None where the grant is not revoked.

        Raises:
            SealError: when the key ring does not open them.

        """
        # Only of a revoked one: what an owner has consented to meanwhile must not be given back.
        statement = select(
            Grant.generation,
            Grant.refresh_token,
            Grant.access_token,
            Grant.captured,
            Grant.leased_until.is_not(None).label("leased"),
        ).where(Grant.id == grant_id, Grant.state == GrantState.REVOKED.value)
        async with self._engine.connect() as connection:
            row = (await connection.execute(statement)).one_or_none()
        if row is None:
            return None
        access_token = row.access_token
        return TokensToGiveBack(
            generation=row.generation,
            refresh_token=self._keys.open(row.refresh_token, REFRESH_TOKEN, grant_id) if row.refresh_token else None,
            access_token=self._keys.open(access_token, ACCESS_TOKEN, grant_id) if access_token is not None else None,
            captured=row.captured or {},
            leased=row.leased,
        )

    async def _change(self, statement: TextClause, parameters: dict[str, object]) -> bool:
        async with self._engine.begin() as connection:
            return (await connection.execute(statement, parameters)).first() is not None
