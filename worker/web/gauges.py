"""Gauges from the database: the same in every replica, read once for a scrape and kept for a few seconds.

They are the database's values, not a process's own: a dashboard over several web processes takes the greatest of each
client, never the sum.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.bootstrap import monotonic
from worker.domain.grant import GrantState
from worker.storage.client_figures import COUNTED_AT_MOST, ClientFigures, read_client_figures
from worker.storage.oldest_snapshot import read_oldest_snapshot
from worker.storage.webhook_endpoints import EndpointStatus
from worker.usecases.webhooks import Webhooks

#: Seconds for which figures are good: scrapers that come together cost one query.
KEPT_SECONDS: Final = 2.0
_BOUND: Final = f"counted up to {COUNTED_AT_MOST:,} for each client"
_SHARED: Final = "Of the whole database: over web processes take max, not sum."


class DatabaseGauges:
    """Reads the figures and gives them as Prometheus gauges.

    Args:
        engine: the process's connections.
        clients: names of the configured clients, shown even without grants.
        webhooks: whose endpoints are shown.

    """

    def __init__(self, engine: AsyncEngine, clients: Sequence[str], webhooks: Webhooks) -> None:
        self._engine = engine
        self._clients = clients
        self._webhooks = webhooks
        self._figures: Sequence[ClientFigures] = ()
        self._endpoints: Sequence[EndpointStatus] = ()
        self._oldest_snapshot = 0
        self._read_at: float | None = None
        self._reading = asyncio.Lock()

    async def read(self) -> Iterable[Metric]:
        """Return the gauges as of now, or of a moment ago."""
        async with self._reading:
            if self._read_at is None or monotonic() - self._read_at > KEPT_SECONDS:
                self._figures = await read_client_figures(self._engine, self._clients)
                statuses = await self._webhooks.statuses()
                self._endpoints = [found for found in statuses if found.name in self._webhooks.endpoints]
                self._oldest_snapshot = await read_oldest_snapshot(self._engine)
                self._read_at = monotonic()
        snapshot = _snapshot_gauge(self._oldest_snapshot)
        return [*_gauges(self._figures), snapshot, *_webhook_gauges(self._endpoints)]


def _gauges(figures: Sequence[ClientFigures]) -> Iterable[Metric]:
    grants = GaugeMetricFamily("evergrant_grants", f"Grants by state. {_SHARED}", labels=["client", "state"])
    overdue = GaugeMetricFamily(
        "evergrant_overdue_grants", f"Grants past rotate_at, {_BOUND}. {_SHARED}", labels=["client"]
    )
    oldest = GaugeMetricFamily(
        "evergrant_oldest_overdue_seconds", f"How long the oldest of them has been due. {_SHARED}", labels=["client"]
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
    for found in figures:
        for state in GrantState:
            grants.add_metric([found.client, state.value], found.states.get(state, 0))
        overdue.add_metric([found.client], found.overdue)
        oldest.add_metric([found.client], found.oldest_overdue_seconds)
        expired.add_metric([found.client], found.expired_access_tokens)
        breaker.add_metric([found.client], 1 if found.breaker_opened_at is not None else 0)
        brake.add_metric([found.client], 1 if found.braked_at is not None else 0)
    return [grants, overdue, oldest, expired, breaker, brake]


def _snapshot_gauge(transactions: int) -> Metric:
    return GaugeMetricFamily(
        "evergrant_oldest_snapshot_transactions",
        "Transactions begun since the oldest snapshot that is still held in this database: by a session, a replication "
        "slot or a prepared transaction. Rows that died since then cannot be removed, and claims get slower. Sessions "
        f"of other roles are seen with pg_read_all_stats only. {_SHARED}",
        value=transactions,
    )


def _webhook_gauges(statuses: Sequence[EndpointStatus]) -> Iterable[Metric]:
    waiting = GaugeMetricFamily("evergrant_webhook_waiting", "Events not delivered yet.", labels=["endpoint"])
    oldest = GaugeMetricFamily(
        "evergrant_webhook_oldest_waiting_seconds", "How long ago the oldest of them happened.", labels=["endpoint"]
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
