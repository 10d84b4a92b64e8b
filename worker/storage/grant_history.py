"""What happened to one grant: its events, its generations and its mails, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.storage.event_log import LoggedEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One stored rotation."""

    at: datetime
    generation: int
    spent_fingerprint: str | None  #: of the refresh token that was spent for it


@dataclass(frozen=True, slots=True, kw_only=True)
class MailTold:
    """One mail, with when something happened to it last, or will."""

    at: datetime  #: of one that waits, when it goes out
    kind: str
    state: str
    recipient: str
    last_error: str | None
    link_used_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Of each kind the newest before an instant, newest first, and the database's clock."""

    events: Sequence[LoggedEvent]
    generations: Sequence[Generation]
    mails: Sequence[MailTold]
    now: datetime


_EVENTS: Final = text("""
    SELECT id, at, type, client, grant_id, subject, data FROM events
     WHERE grant_id = :grant_id AND (CAST(:before AS timestamptz) IS NULL OR at < CAST(:before AS timestamptz))
     ORDER BY id DESC LIMIT :limit
""")
_GENERATIONS: Final = text("""
    SELECT at, generation, spent_fingerprint FROM rotations
     WHERE grant_id = :grant_id AND (CAST(:before AS timestamptz) IS NULL OR at < CAST(:before AS timestamptz))
     ORDER BY id DESC LIMIT :limit
""")
_MAILS: Final = text("""
    SELECT * FROM (
        SELECT CASE state WHEN 'waiting' THEN due_at ELSE coalesce(sent_at, last_error_at, created_at) END AS at,
               kind, state, recipient, last_error, link_used_at
          FROM reconsent_mails WHERE grant_id = :grant_id AND recipient <> '') AS told
     WHERE CAST(:before AS timestamptz) IS NULL OR at < CAST(:before AS timestamptz)
     ORDER BY at DESC LIMIT :limit
""")


async def read_history(engine: AsyncEngine, grant_id: UUID, *, before: datetime | None, limit: int) -> History:
    """Return what happened to a grant.

    Args:
        engine: the process's connections.
        grant_id: the grant.
        before: only what happened before this instant.
        limit: of each kind at most so many.

    """
    looked_for: dict[str, Any] = {"grant_id": grant_id, "before": before, "limit": limit}
    async with engine.connect() as connection:
        events = (await connection.execute(_EVENTS, looked_for)).all()
        generations = (await connection.execute(_GENERATIONS, looked_for)).all()
        mails = (await connection.execute(_MAILS, looked_for)).all()
        now = (await connection.execute(text("SELECT now()"))).scalar_one()
    return History(
        events=[LoggedEvent(**row._mapping) for row in events],  # noqa: SLF001 -- SQLAlchemy's public name
        generations=[Generation(**row._mapping) for row in generations],  # noqa: SLF001 -- SQLAlchemy's public name
        mails=[MailTold(**row._mapping) for row in mails],  # noqa: SLF001 -- SQLAlchemy's public name
        now=now,
    )
