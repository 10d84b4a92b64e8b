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
class _Hour:
    """What was counted in one hour: by client and outcome, and which of it is not stored yet."""

    begin: datetime
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    changed: set[tuple[str, str]] = field(default_factory=set)
    end: datetime = field(init=False)

    def __post_init__(self) -> None:
        self.end = self.begin + _HOUR

    def take_changed(self) -> set[tuple[str, str]]:
        """Return what is not stored yet, for whoever stores it now."""
        taken, self.changed = self.changed, set()
        return taken


@dataclass(slots=True, kw_only=True)
class Tally:
    """Counts one process's refreshes.

    Args:
        engine: the process's connections.
        reporter: chance: the process's own name for its counts.
        clock: the time of day, UTC: it says which hour it is, and all that depends on it is a chart, and whether
            a client that is hardly refreshed was refreshed within hours.

    """

    engine: AsyncEngine
    reporter: UUID
    clock: Callable[[], datetime]
    _hours: dict[datetime, _Hour] = field(default_factory=dict, init=False)
    _now: _Hour = field(default_factory=lambda: _Hour(begin=_LONG_AGO), init=False)

    def count(self, client: str, outcome: str) -> None:
        """Count one refresh."""
        now, hour = self.clock(), self._now
        if not hour.begin <= now < hour.end:
            begin = now.replace(minute=0, second=0, microsecond=0)
            hour = self._now = self._hours.setdefault(begin, _Hour(begin=begin))
        key = client, outcome
        hour.counts[key] += 1
        hour.changed.add(key)

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
        changed = {hour.begin: hour.take_changed() for hour in self._hours.values() if hour.begin >= oldest}
        counts = {
            (begin, client, outcome): self._hours[begin].counts[client, outcome]
            for begin, keys in changed.items()
            for client, outcome in keys
        }
        try:
            if counts:
                await write_counts(self.engine, self.reporter, counts)
        except AWAY:
            for begin, keys in changed.items():
                self._hours[begin].changed.update(keys)
            return
        self._forget(oldest)

    def _forget(self, oldest: datetime) -> None:
        newest = max(self._hours, default=oldest)
        for hour in list(self._hours.values()):
            if hour.begin < newest and (hour.begin < oldest or not hour.changed):
                del self._hours[hour.begin]
