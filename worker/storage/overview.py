"""What is going on, for the page: every client's figures, and what happened last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.storage.client_figures import ClientFigures, read_client_figures

#: Lines in the lists of what happened last.
RECENT: Final = 12
#: Rotations of all clients among which one client's are looked for: some hundredths of a second.
LOOKED_THROUGH: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentRotation:
    """One rotation that was stored lately."""

    at: datetime
    grant_id: UUID
    client: str
    subject: str
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentEvent:
    """One event, without anything secret."""

    at: datetime
    type: str
    client: str
    subject: str | None
    grant_id: UUID | None
    data: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """Everything the first page shows, as of one instant."""

    now: datetime
    clients: Sequence[ClientFigures]
    rotations: Sequence[RecentRotation]
    events: Sequence[RecentEvent]
    rotations_last_minute: int


# One client's are looked for among the newest of all: no index names a rotation's client, for each would be written to
# at every rotation, and a client that is seldom refreshed would have all of the table read every two seconds.
_ROTATIONS: Final = text("""
    SELECT at, grant_id, client, subject, generation FROM rotations
     WHERE CAST(:only AS text) IS NULL
        OR client = CAST(:only AS text) AND id > (SELECT max(id) FROM rotations) - :looked_through
     ORDER BY id DESC LIMIT :recent
""")
_EVENTS: Final = text("""
    SELECT at, type, client, subject, grant_id, data FROM events
     WHERE type <> 'grant.created' AND (CAST(:only AS text) IS NULL OR client = CAST(:only AS text))
     ORDER BY id DESC LIMIT :recent
""")
# Ids ascend as time does, so walking back from the newest reads the last minute and nothing else. In two statements:
# planned without knowing where it begins, the count is taken for a third of the table, and may read all of it.
_BEFORE_LAST_MINUTE: Final = text("""
    SELECT id FROM rotations WHERE at <= now() - interval '60 seconds' ORDER BY id DESC LIMIT 1
""")
_ROTATIONS_AFTER: Final = text("""
    SELECT count(*) FROM rotations WHERE id > :id AND (CAST(:only AS text) IS NULL OR client = CAST(:only AS text))
""")


async def read_overview(engine: AsyncEngine, configured: Sequence[str], *, only: str | None = None) -> Overview:
    """Return what the first page shows, of one client alone where one is given."""
    clients = [found for found in await read_client_figures(engine, configured) if only is None or found.client == only]
    async with engine.connect() as connection:
        newest = {"recent": RECENT, "only": only, "looked_through": LOOKED_THROUGH}
        rotations = (await connection.execute(_ROTATIONS, newest)).all()
        events = (await connection.execute(_EVENTS, {"recent": RECENT, "only": only})).all()
        before = (await connection.execute(_BEFORE_LAST_MINUTE)).scalar_one_or_none()
        last_minute = (await connection.execute(_ROTATIONS_AFTER, {"id": before or 0, "only": only})).scalar_one()
        now = (await connection.execute(text("SELECT now()"))).scalar_one()
    return Overview(
        now=now,
        clients=clients,
        rotations=[RecentRotation(**row._mapping) for row in rotations],  # noqa: SLF001 -- SQLAlchemy's public name
        events=[RecentEvent(**row._mapping) for row in events],  # noqa: SLF001 -- SQLAlchemy's public name
        rotations_last_minute=last_minute,
    )
