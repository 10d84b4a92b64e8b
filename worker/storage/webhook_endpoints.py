"""Webhook endpoints as an operator sees and changes them: what has arrived, what waits, what is dead and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.storage.webhook_outbox import LANE, WANTED, Wanted

#: What waits in the log is counted up to here: beyond, the number tells no more.
_COUNTED: Final = 100_000
#: Deliveries sent again in one transaction.
_BATCH: Final = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointStatus:
    """How an endpoint is."""

    name: str
    delivered: int = 0
    delivered_at: datetime | None = None
    waiting: int = 0  #: what is under way included
    oldest_waiting_at: datetime | None = None
    oldest_waiting_seconds: float = 0.0
    dead: int = 0
    failures: int = 0  #: in a row
    held_until: datetime | None = None  #: spared until then, for it failed
    paused_at: datetime | None = None
    paused_reason: str | None = None  #: `operator` or `gone`
    last_error: str | None = None
    last_error_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadDelivery:
    """An event that an endpoint has not taken, and that is not tried any more."""

    endpoint: str
    event: int
    type: str
    client: str
    grant: UUID | None
    at: datetime  #: when it happened
    failures: int
    dead_at: datetime
    last_error: str | None


_STATUS: Final = text("""
    SELECT name, delivered, delivered_at, failures, CASE WHEN held_until > now() THEN held_until END AS held_until,
           paused_at, paused_reason, last_error, last_error_at
      FROM webhook_endpoints ORDER BY name
""")
_COUNTS: Final = text("""
    SELECT d.endpoint, count(*) FILTER (WHERE dead_at IS NULL) AS waiting, count(dead_at) AS dead,
           (SELECT at FROM events WHERE id = min(event_id) FILTER (WHERE dead_at IS NULL)) AS oldest_waiting_at
      FROM webhook_deliveries AS d GROUP BY d.endpoint
""")
_UNREAD: Final = text(f"""
    SELECT count(*) AS waiting, min(at) AS oldest_waiting_at FROM (
        SELECT e.at FROM events AS e, webhook_endpoints AS w
         WHERE w.name = :endpoint AND e.id > w.read_until AND {WANTED} LIMIT :most) AS unread
""")  # noqa: S608 -- the inserted text is a constant of another module
_DEAD: Final = text("""
    SELECT d.endpoint, d.event_id AS event, e.type, e.client, e.grant_id AS "grant", e.at, d.failures, d.dead_at,
           d.last_error
      FROM webhook_deliveries AS d JOIN events AS e ON e.id = d.event_id
     WHERE d.dead_at IS NOT NULL AND d.endpoint = ANY(CAST(:names AS text[]))
     ORDER BY d.endpoint, d.event_id LIMIT :limit
""")
_PAUSE: Final = text("""
    UPDATE webhook_endpoints SET paused_at = now(), paused_reason = 'operator'
     WHERE name = :endpoint AND paused_reason IS DISTINCT FROM 'operator'
    RETURNING name
""")
_RESUME: Final = text("""
    UPDATE webhook_endpoints SET paused_at = NULL, paused_reason = NULL, failures = 0, held_until = NULL
     WHERE name = :endpoint AND (paused_at IS NOT NULL OR held_until IS NOT NULL)
    RETURNING name
""")
_REPLAY_DEAD: Final = text("""
    UPDATE webhook_deliveries SET dead_at = NULL, failures = 0, next_attempt_at = now(), awaits_endpoint = false
     WHERE endpoint = :endpoint AND dead_at IS NOT NULL
""")
# Instants are those of transactions, which end within seconds: the log is in their order but for so much.
_BEFORE: Final = text("""
    SELECT id FROM events WHERE at < CAST(:since AS timestamptz) - interval '1 minute' ORDER BY id DESC LIMIT 1
""")
# What an endpoint has not read yet comes to it anyway.
_REPLAY: Final = text(f"""
    INSERT INTO webhook_deliveries AS d (endpoint, event_id, lane)
    SELECT :endpoint, e.id, {LANE} FROM events AS e
     WHERE e.id > :after AND e.id <= (SELECT read_until FROM webhook_endpoints WHERE name = :endpoint) AND {WANTED}
       AND (CAST(:event AS bigint) IS NULL OR e.id = CAST(:event AS bigint))
       AND (CAST(:since AS timestamptz) IS NULL OR e.at >= CAST(:since AS timestamptz))
     ORDER BY e.id LIMIT {_BATCH}
    ON CONFLICT (endpoint, event_id) DO UPDATE
       SET dead_at = NULL, failures = 0, next_attempt_at = now(), awaits_endpoint = false
    RETURNING event_id
""")  # noqa: S608 -- the inserted text is a constant of these modules


class WebhookEndpoints:
    """Looks at endpoints and changes them."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def statuses(self, wanted: Sequence[Wanted]) -> list[EndpointStatus]:
        """Return how every endpoint is that is configured, or was and has left something behind."""
        async with self._engine.connect() as connection:
            now: datetime = (await connection.execute(text("SELECT now()"))).scalar_one()
            known = {row.name: row for row in await connection.execute(_STATUS)}
            counted = {row.endpoint: row for row in await connection.execute(_COUNTS)}
            unread = {
                found.endpoint: (await connection.execute(_UNREAD, {**found.columns, "most": _COUNTED})).one()
                for found in wanted
            }
        names = sorted({*known, *counted, *unread})
        return [_status(name, known.get(name), counted.get(name), unread.get(name), now) for name in names]

    async def dead(self, endpoints: Sequence[str], limit: int) -> list[DeadDelivery]:
        """Return the dead deliveries of endpoints, the oldest first, up to a limit."""
        async with self._engine.connect() as connection:
            found = await connection.execute(_DEAD, {"names": list(endpoints), "limit": limit})
            return [DeadDelivery(**row._mapping) for row in found]  # noqa: SLF001 -- SQLAlchemy's public name

    async def pause(self, endpoint: str) -> bool:
        """Send nothing to an endpoint until it is resumed; what happens is kept for it. Tell if that is new."""
        async with self._engine.begin() as connection:
            return (await connection.execute(_PAUSE, {"endpoint": endpoint})).first() is not None

    async def resume(self, endpoint: str) -> bool:
        """Let an endpoint have its events again, whether an operator or its own 410 stopped them."""
        async with self._engine.begin() as connection:
            return (await connection.execute(_RESUME, {"endpoint": endpoint})).first() is not None

    async def replay_dead(self, endpoint: str) -> int:
        """Send what is dead for an endpoint once more; returns how many events."""
        async with self._engine.begin() as connection:
            return (await connection.execute(_REPLAY_DEAD, {"endpoint": endpoint})).rowcount

    async def replay(self, wanted: Wanted, *, event: int | None = None, since: datetime | None = None) -> int:
        """Send an endpoint what it wants once more, whether it has arrived or not; returns how many events.

        Args:
            wanted: the endpoint.
            event: only this event.
            since: only what happened at this instant or later.

        """
        after, count = 0 if event is None else event - 1, 0
        if since is not None:
            async with self._engine.connect() as connection:
                after = (await connection.execute(_BEFORE, {"since": since})).scalar_one_or_none() or 0
        while True:
            columns = {**wanted.columns, "after": after, "event": event, "since": since}
            async with self._engine.begin() as connection:
                ids = list((await connection.execute(_REPLAY, columns)).scalars())
            count += len(ids)
            if len(ids) < _BATCH:
                return count
            after = max(ids)


def _status(
    name: str, known: Row[Any] | None, counted: Row[Any] | None, unread: Row[Any] | None, now: datetime
) -> EndpointStatus:
    status = EndpointStatus(**known._mapping) if known is not None else EndpointStatus(name=name)  # noqa: SLF001 -- SQLAlchemy's public name
    waits = [row for row in (counted, unread) if row is not None]
    oldest = min((row.oldest_waiting_at for row in waits if row.oldest_waiting_at is not None), default=None)
    return replace(
        status,
        waiting=sum(row.waiting for row in waits),
        oldest_waiting_at=oldest,
        oldest_waiting_seconds=(now - oldest).total_seconds() if oldest is not None else 0.0,
        dead=counted.dead if counted is not None else 0,
    )
