"""Gauges from the database: the same in every replica, read once for a scrape and kept for a few seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client.core import Metric
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.bootstrap import monotonic
from worker.logging import get_logger
from worker.readiness import in_time
from worker.storage.client_figures import read_client_figures
from worker.storage.oldest_snapshot import read_oldest_snapshot
from worker.storage.presence import count_workers
from worker.usecases.webhooks import Webhooks
from worker.web.gauge_families import Found, families

#: Seconds for which figures are good: shorter than scrape intervals are, so that each scrape has figures of its
#: own, and several scrapers of one interval cost one look.
KEPT_SECONDS: Final = 5.0
#: Seconds for reading them: a scrape waits ten by default, and what was counted is to arrive without them.
READ_SECONDS: Final = 6.0

log = get_logger("evergrant.web")


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
        self._found: Found | None = None
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
            return families(self._found)

    async def _read(self) -> Found:
        figures = await read_client_figures(self._engine, self._clients)
        statuses = await self._webhooks.statuses()
        return Found(
            figures=figures,
            endpoints=[found for found in statuses if found.name in self._webhooks.endpoints],
            oldest_snapshot=await read_oldest_snapshot(self._engine),
            workers=await count_workers(self._engine) if self._counts_workers else None,
        )
