"""Gauges from the database: the same in every replica, read once for a scrape and kept for a few seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from prometheus_client.core import Metric
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.bootstrap import monotonic
from worker.logging import get_logger
from worker.readiness import in_time
from worker.storage.away import has_answered
from worker.storage.client_figures import read_client_figures
from worker.storage.oldest_snapshot import read_oldest_snapshot
from worker.storage.presence import count_workers
from worker.storage.webhook_endpoints import EndpointStatus
from worker.usecases.webhooks import Webhooks
from worker.web.gauge_families import Found, families

#: Seconds for which figures are good: shorter than scrape intervals are, so that each scrape has figures of its
#: own, and several scrapers of one interval cost one look.
KEPT_SECONDS: Final = 5.0
#: Seconds for reading them: a scrape waits ten by default, and what was counted is to arrive without them.
READ_SECONDS: Final = 6.0

log = get_logger("evergrant.web")

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read(Generic[T]):
    """What one read has brought, or why it has not."""

    value: T | None = None
    error: BaseException | None = None

    @property
    def is_answered(self) -> bool:
        return self.error is None or has_answered(self.error)


async def _read(reading: Coroutine[Any, Any, T]) -> _Read[T]:
    try:
        return _Read(value=await in_time(reading, READ_SECONDS))
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        return _Read(error=error)


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
                self._found = await self._read()
                self._read_at = monotonic()
            return families(self._found)

    async def _read(self) -> Found | None:
        """Return what could be read, each part by itself; None where nothing got an answer: the database is away."""
        figures, endpoints, snapshot, workers = await asyncio.gather(
            _read(read_client_figures(self._engine, self._clients)),
            _read(self._endpoints()),
            _read(read_oldest_snapshot(self._engine)),
            _read(self._workers()),
        )
        parts: dict[str, _Read[Any]] = {
            "clients": figures,
            "webhooks": endpoints,
            "oldest_snapshot": snapshot,
            "workers": workers,
        }
        for name, part in parts.items():
            if part.error is not None:
                log.warning("gauges_unreadable", gauges=name, error=type(part.error).__name__)
        # Whether workers are counted or not: these ask the database.
        if not any(part.is_answered for part in (figures, endpoints, snapshot)):
            return None
        return Found(
            figures=figures.value, endpoints=endpoints.value, oldest_snapshot=snapshot.value, workers=workers.value
        )

    async def _endpoints(self) -> list[EndpointStatus]:
        return [found for found in await self._webhooks.statuses() if found.name in self._webhooks.endpoints]

    async def _workers(self) -> int | None:
        return await count_workers(self._engine) if self._counts_workers else None
