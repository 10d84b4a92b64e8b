"""Gauges from the database: the same in every replica, read once for a scrape and kept for a few seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.bootstrap import monotonic
from worker.domain.grant import GrantState
from worker.storage.overview import ClientFigures, read_client_figures
from worker.storage.webhook_endpoints import EndpointStatus
from worker.usecases.webhooks import Webhooks

#: Seconds for which figures are good: scrapers that come together cost one query.
KEPT_SECONDS: Final = 2.0


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
        self._read_at: float | None = None
        self._reading = asyncio.Lock()

    async def read(self) -> Iterable[Metric]:
        """Return the gauges as of now, or of a moment ago."""
        async with self._reading:
            if self._read_at is None or monotonic() - self._read_at > KEPT_SECONDS:
                self._figures = await read_client_figures(self._engine, self._clients)
                statuses = await self._webhooks.statuses()
                self._endpoints = [found for found in statuses if found.name in self._webhooks.endpoints]
                self._read_at = monotonic()
        return [*_gauges(self._figures), *_webhook_gauges(self._endpoints)]


def _gauges(figures: Sequence[ClientFigures]) -> Iterable[Metric]:
    grants = GaugeMetricFamily("evergrant_grants", "Grants by state.", labels=["client", "state"])
    overdue = GaugeMetricFamily("evergrant_overdue_grants", "Grants past rotate_at.", labels=["client"])
    oldest = GaugeMetricFamily(
        "evergrant_oldest_overdue_seconds", "How long the oldest of them has been due.", labels=["client"]
    )
    expired = GaugeMetricFamily(
        "evergrant_expired_access_tokens", "Active grants whose access token has run out.", labels=["client"]
    )
    breaker = GaugeMetricFamily("evergrant_breaker_state", "1 while the client's breaker is open.", labels=["client"])
    brake = GaugeMetricFamily("evergrant_brake_state", "1 while the client's brake is on.", labels=["client"])
    for found in figures:
        for state in GrantState:
            grants.add_metric([found.client, state.value], found.states.get(state, 0))
        overdue.add_metric([found.client], found.overdue)
        oldest.add_metric([found.client], found.oldest_overdue_seconds)
        expired.add_metric([found.client], found.expired_access_tokens)
        breaker.add_metric([found.client], 1 if found.breaker_opened_at is not None else 0)
        brake.add_metric([found.client], 1 if found.braked_at is not None else 0)
    return [grants, overdue, oldest, expired, breaker, brake]


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
