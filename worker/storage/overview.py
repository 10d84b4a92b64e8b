"""What is going on, in a few cheap queries: for the page and for the gauges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.domain.grant import GrantState

#: Lines in the lists of what happened last.
RECENT: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientFigures:
    """One client's grants in numbers, and what holds it back."""

    client: str
    states: dict[GrantState, int]
    overdue: int
    oldest_overdue_seconds: float
    expired_access_tokens: int
    in_flight: int
    paused_by_operator: bool
    throttled_until: datetime | None
    breaker_opened_at: datetime | None
    breaker_reason: str | None
    breaker_code: str | None
    braked_at: datetime | None

    @property
    def total(self) -> int:
        """Return how many grants the client has."""
        return sum(self.states.values())


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


_FIGURES: Final = text("""
    SELECT client, state, count(*) AS grants,
           count(*) FILTER (WHERE leased_until IS NOT NULL) AS in_flight,
           count(*) FILTER (WHERE rotate_at <= now() AND leased_until IS NULL
                              AND state IN ('active', 'in_doubt', 'suspect')) AS overdue,
           coalesce(extract(epoch FROM now() - min(rotate_at) FILTER (
               WHERE rotate_at <= now() AND leased_until IS NULL
                 AND state IN ('active', 'in_doubt', 'suspect'))), 0)::float8 AS oldest_overdue,
           count(*) FILTER (WHERE access_expires_at <= now() AND state = 'active') AS expired
      FROM grants GROUP BY client, state
""")
_STATUSES: Final = text("""
    SELECT client, paused_by_operator, CASE WHEN throttled_until > now() THEN throttled_until END AS throttled_until,
           breaker_opened_at, breaker_reason, breaker_code, braked_at
      FROM client_status
""")
_ROTATIONS: Final = text("""
    SELECT at, grant_id, client, subject, generation FROM rotations ORDER BY id DESC LIMIT :recent
""")
_EVENTS: Final = text("""
    SELECT at, type, client, subject, grant_id, data FROM events
     WHERE type <> 'grant.created' ORDER BY id DESC LIMIT :recent
""")
_LAST_MINUTE: Final = text("SELECT count(*) FROM rotations WHERE at > now() - interval '60 seconds'")


async def read_client_figures(engine: AsyncEngine, configured: Sequence[str]) -> list[ClientFigures]:
    """Return the figures of every client that is configured or has grants."""
    async with engine.connect() as connection:
        figures = (await connection.execute(_FIGURES)).all()
        statuses = {row.client: row for row in await connection.execute(_STATUSES)}
    names = sorted({*configured, *(row.client for row in figures)})
    found = []
    for name in names:
        rows = [row for row in figures if row.client == name]
        status = statuses.get(name)
        found.append(
            ClientFigures(
                client=name,
                states={GrantState(row.state): row.grants for row in rows},
                overdue=sum(row.overdue for row in rows),
                oldest_overdue_seconds=max((row.oldest_overdue for row in rows), default=0.0),
                expired_access_tokens=sum(row.expired for row in rows),
                in_flight=sum(row.in_flight for row in rows),
                paused_by_operator=status is not None and status.paused_by_operator,
                throttled_until=status.throttled_until if status is not None else None,
                breaker_opened_at=status.breaker_opened_at if status is not None else None,
                breaker_reason=status.breaker_reason if status is not None else None,
                breaker_code=status.breaker_code if status is not None else None,
                braked_at=status.braked_at if status is not None else None,
            )
        )
    return found


async def read_overview(engine: AsyncEngine, configured: Sequence[str]) -> Overview:
    """Return what the first page shows."""
    clients = await read_client_figures(engine, configured)
    async with engine.connect() as connection:
        rotations = (await connection.execute(_ROTATIONS, {"recent": RECENT})).all()
        events = (await connection.execute(_EVENTS, {"recent": RECENT})).all()
        last_minute = (await connection.execute(_LAST_MINUTE)).scalar_one()
        now = (await connection.execute(text("SELECT now()"))).scalar_one()
    return Overview(
        now=now,
        clients=clients,
        rotations=[RecentRotation(**row._mapping) for row in rotations],  # noqa: SLF001 -- SQLAlchemy's public name
        events=[RecentEvent(**row._mapping) for row in events],  # noqa: SLF001 -- SQLAlchemy's public name
        rotations_last_minute=last_minute,
    )
