"""Counting refreshes by the hour, for charts: in memory beside the hot path, and stored now and then."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from worker.storage.away import AWAY
from worker.storage.refresh_hours import write_counts

#: Seconds between two writes: a killed process takes no more than so many with it, out of a chart.
WRITE_EVERY: Final = 5.0
#: An hour that ended longer ago is not written any more: it may have been folded.
LATEST: Final = timedelta(hours=1)
_HOUR: Final = timedelta(hours=1)
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True, kw_only=True)
class Tally:
    """Counts one process's refreshes.

    Args:
        engine: the process's connections.
        reporter: chance: the process's own name for its counts.
        clock: the time of day, UTC: it says which hour it is, and nothing depends on it but a chart.

    """

    engine: AsyncEngine
    reporter: UUID
    clock: Callable[[], datetime]
    _counts: Counter[tuple[datetime, str, str]] = field(default_factory=Counter, init=False)
    _changed: set[tuple[datetime, str, str]] = field(default_factory=set, init=False)
    _hour: datetime = field(default=_LONG_AGO, init=False)  # the one that is, as one object: making one takes longer

    def count(self, client: str, outcome: str) -> None:
        """Count one refresh."""
        now = self.clock()
        if not timedelta() <= now - self._hour < _HOUR:
            self._hour = now.replace(minute=0, second=0, microsecond=0)
        key = self._hour, client, outcome
        self._counts[key] += 1
        self._changed.add(key)

    async def keep_writing(self) -> None:
        """Store the counts every few seconds until cancelled."""
        while True:
            await asyncio.sleep(WRITE_EVERY)
            await self.write()

    async def write(self) -> None:
        """Store what has changed; while the database is away it is kept."""
        # An hour that may have been folded meanwhile, by whoever had the database, is not written again.
        # By the clock and not by the newest count: whoever has nothing to count sees hours pass all the same.
        oldest = self.clock().replace(minute=0, second=0, microsecond=0) - LATEST
        self._changed.difference_update([key for key in self._changed if key[0] < oldest])
        changed = {key: self._counts[key] for key in self._changed}
        if not changed:
            return
        self._changed.clear()
        try:
            await write_counts(self.engine, self.reporter, changed)
        except AWAY:
            self._changed.update(changed)
            return
        self._forget(max(hour for hour, _client, _outcome in self._counts))

    def _forget(self, newest: datetime) -> None:
        for key in [key for key in self._counts if key[0] < newest and key not in self._changed]:
            del self._counts[key]
