"""Gauges from the database: the same in every replica, read once for a scrape and kept for a few seconds.

They are the database's values, not a process's own: a dashboard over several web processes takes the greatest of each
client, never the sum.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.bootstrap import monotonic
from worker.domain.grant import GrantState
from worker.logging import get_logger
from worker.readiness import in_time
from worker.storage.client_figures import COUNTED_AT_MOST, ClientFigures, read_client_figures
from worker.storage.oldest_snapshot import read_oldest_snapshot
from worker.storage.presence import count_workers
from worker.storage.webhook_endpoints import EndpointStatus
from worker.usecases.webhooks import Webhooks

#: Seconds for which figures are good: shorter than scrape intervals are, so that each scrape has figures of its
#: own, and several scrapers of one interval cost one look.
KEPT_SECONDS: Final = 5.0
#: Seconds for reading them: a scrape waits ten by default, and what was counted is to arrive without them.
READ_SECONDS: Final = 6.0
_BOUND: Final = f"counted up to {COUNTED_AT_MOST:,} for each client"
_SHARED: Final = "Of the whole database: over web processes take max, not sum."

log = get_logger("evergrant.web")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What was read of the database."""

    figures: Sequence[ClientFigures]
    endpoints: Sequence[EndpointStatus]
    oldest_snapshot: int
    workers: int


class DatabaseGauges:
    """Reads the figures and gives them as Prometheus gauges.

    Args:
        engine: the process's connections.
        clients: names of the configured clients, shown even without grants.
        webhooks: whose endpoints are shown.
        counts_workers: whether workers hold the lock by which they are counted.

    """

    def __init__(
        self, engine: AsyncEngine, clients: Sequence[str], webhooks: Webhooks, *, counts_workers: bool
    ) -> None:
        self._engine = engine
        self._clients = clients
        self._webhooks = webhooks
        self._counts_workers = counts_workers
        self._found: _Found | None = None
        self._read_at: float | None = None
        self._reading = asyncio.Lock()

    async def read(self) -> Iterable[Metric]:
        """Return the gauges as of now, or of a moment ago; without the database, only that it is away."""
        async with self._reading:
            if self._read_at is None or monotonic() - self._read_at > KEPT_SECONDS:
                try:
                    self._found = await in_time(self._read(), READ_SECONDS)
                except (SQLAlchemyError, OSError, TimeoutError) as error:
                    log.warning("gauges_unreadable", error=type(error).__name__)
                    self._found = None
                self._read_at = monotonic()
            found = self._found
        if found is None:
            return [_reachable(0)]
        snapshot = _snapshot_gauge(found.oldest_snapshot)
        workers = [_workers_gauge(found.workers)] if self._counts_workers else []
        return [_reachable(1), *_gauges(found.figures), *workers, snapshot, *_webhook_gauges(found.endpoints)]

    async def _read(self) -> _Found:
        figures = await read_client_figures(self._engine, self._clients)
        statuses = await self._webhooks.statuses()
        return _Found(
            figures=figures,
            endpoints=[found for found in statuses if found.name in self._webhooks.endpoints],
            oldest_snapshot=await read_oldest_snapshot(self._engine),
            workers=await count_workers(self._engine),
        )


def _reachable(value: int) -> Metric:
    return GaugeMetricFamily(
        "evergrant_database_reachable", "1 while this process can read the database's gauges, else 0.", value=value
    )


def _workers_gauge(workers: int) -> Metric:
    return GaugeMetricFamily(
        "evergrant_workers", f"Workers that are there, by the locks that they hold. {_SHARED}", value=workers
    )


def _gauges(figures: Sequence[ClientFigures]) -> Iterable[Metric]:
    grants = GaugeMetricFamily("evergrant_grants", f"Grants by state. {_SHARED}", labels=["client", "state"])
    overdue = GaugeMetricFamily(
        "evergrant_overdue_grants", f"Grants past rotate_at, {_BOUND}. {_SHARED}", labels=["client"]
    )
    oldest = GaugeMetricFamily(
        "evergrant_oldest_overdue_seconds",
        f"How long the oldest of them has been due, in seconds. {_SHARED}",
        labels=["client"],
    )
    expired = GaugeMetricFamily(
        "evergrant_expired_access_tokens",
        "Active grants whose access token has run out and was to be fresh: overdue, under way, or put off after a "
        "failure or a strike. With keep = refresh a token may run out before its grant is due; it is not counted. Each "
        f"of the three is {_BOUND}. {_SHARED}",
        labels=["client"],
    )
    breaker = GaugeMetricFamily(
        "evergrant_breaker_state", f"1 while the client's breaker is open. {_SHARED}", labels=["client"]
    )
    brake = GaugeMetricFamily(
        "evergrant_brake_state", f"1 while the client's brake is on. {_SHARED}", labels=["client"]
    )
    flight = GaugeMetricFamily(
        "evergrant_in_flight_grants", f"Grants under lease, whose refresh is under way. {_SHARED}", labels=["client"]
    )
    ending = GaugeMetricFamily(
        "evergrant_consents_ending",
        "Grants whose consent is about to end ([mails] ahead) and which no refresh prolongs, until their owner "
        f"consents anew, {_BOUND}. {_SHARED}",
        labels=["client"],
    )
    paused = GaugeMetricFamily(
        "evergrant_paused_state", f"1 while an operator holds the client back. {_SHARED}", labels=["client"]
    )
    throttled = GaugeMetricFamily(
        "evergrant_throttled_state", f"1 while the provider has asked for a pause. {_SHARED}", labels=["client"]
    )
    for found in figures:
        for state in GrantState:
            grants.add_metric([found.client, state.value], found.states.get(state, 0))
        overdue.add_metric([found.client], found.overdue)
        oldest.add_metric([found.client], found.oldest_overdue_seconds)
        expired.add_metric([found.client], found.expired_access_tokens)
        breaker.add_metric([found.client], 1 if found.breaker_opened_at is not None else 0)
        brake.add_metric([found.client], 1 if found.braked_at is not None else 0)
        flight.add_metric([found.client], found.in_flight)
        ending.add_metric([found.client], found.consents_ending)
        paused.add_metric([found.client], 1 if found.paused_by_operator else 0)
        throttled.add_metric([found.client], 1 if found.throttled_until is not None else 0)
    return [grants, overdue, oldest, expired, flight, ending, breaker, brake, paused, throttled]


def _snapshot_gauge(transactions: int) -> Metric:
    return GaugeMetricFamily(
        "evergrant_oldest_snapshot_transactions",
        "Transactions begun since the oldest snapshot that is still held in this database: by a session, a replication "
        "slot or a prepared transaction. Rows that died since then cannot be removed, and claims get slower. Sessions "
        f"of other roles are seen with pg_read_all_stats only. {_SHARED}",
        value=transactions,
    )


def _webhook_gauges(statuses: Sequence[EndpointStatus]) -> Iterable[Metric]:
    waiting = GaugeMetricFamily(
        "evergrant_webhook_waiting", f"Events not delivered yet. {_SHARED}", labels=["endpoint"]
    )
    oldest = GaugeMetricFamily(
        "evergrant_webhook_oldest_waiting_seconds",
        f"How long ago the oldest of them happened, in seconds. {_SHARED}",
        labels=["endpoint"],
    )
    dead = GaugeMetricFamily(
        "evergrant_webhook_dead", "Events that were given up, to be sent again by an operator.", labels=["endpoint"]
    )
    paused = GaugeMetricFamily(
        "evergrant_webhook_paused",
        "1 while an endpoint gets no events: by an operator, or its 410.",
        labels=["endpoint"],
    )
    for status in statuses:
        waiting.add_metric([status.name], status.waiting)
        oldest.add_metric([status.name], status.oldest_waiting_seconds)
        dead.add_metric([status.name], status.dead)
        paused.add_metric([status.name], 1 if status.paused_at is not None else 0)
    return [waiting, oldest, dead, paused]
