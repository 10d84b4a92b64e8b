"""How often grants were refreshed, by the hour, client and outcome: what charts are drawn of, without Prometheus.

Each process counts for itself and writes its count of an hour over and over: a write that is repeated changes nothing,
and no process waits for another. Hours that are over are folded, so that the table stays small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

#: Counts of one hour, client and outcome.
Counts = Mapping[tuple[datetime, str, str], int]

#: How long hours are kept: what a month's chart needs, and a little more.
KEPT: Final = timedelta(days=35)
#: An hour is folded when no process writes it any more: the slowest is some seconds behind.
_FOLDED_AFTER: Final = timedelta(hours=2)

_WRITE: Final = text("""
    INSERT INTO refresh_hours (hour, client, outcome, reporter, refreshes)
    SELECT c.hour, c.client, c.outcome, :reporter, c.refreshes
      FROM unnest(CAST(:hours AS timestamptz[]), CAST(:clients AS text[]), CAST(:outcomes AS text[]),
                  CAST(:refreshes AS bigint[])) AS c (hour, client, outcome, refreshes)
    ON CONFLICT (hour, client, outcome, reporter) DO UPDATE
       SET refreshes = greatest(refresh_hours.refreshes, excluded.refreshes)
""")
# Only hours that ended lately are looked at: all others are folded by then, or stay as they are, with the same sum.
# One statement: a snapshot has what it took, or what it put in its place. A late write of a process makes another row
# of its own, which the next fold adds.
_FOLD: Final = text("""
    WITH taken AS (
        DELETE FROM refresh_hours
         WHERE (hour, client, outcome, reporter) IN (
               SELECT hour, client, outcome, reporter FROM refresh_hours
                WHERE hour < now() - CAST(:after AS interval) AND hour > now() - interval '2 days'
                  AND reporter <> CAST(:folded AS uuid)
                FOR UPDATE SKIP LOCKED)
        RETURNING hour, client, outcome, refreshes)
    INSERT INTO refresh_hours (hour, client, outcome, reporter, refreshes)
    SELECT hour, client, outcome, CAST(:folded AS uuid), sum(refreshes) FROM taken GROUP BY hour, client, outcome
    ON CONFLICT (hour, client, outcome, reporter) DO UPDATE
       SET refreshes = refresh_hours.refreshes + excluded.refreshes
""")
_FORGET: Final = text("DELETE FROM refresh_hours WHERE hour < now() - CAST(:kept AS interval)")
_READ: Final = text("""
    SELECT date_bin(CAST(:width AS interval), hour, CAST(:since AS timestamptz)) AS at,
           CAST(coalesce(sum(refreshes) FILTER (WHERE outcome = 'rotated'), 0) AS bigint) AS rotated,
           CAST(coalesce(sum(refreshes) FILTER (WHERE outcome <> 'rotated'), 0) AS bigint) AS failed
      FROM refresh_hours
     WHERE hour >= CAST(:since AS timestamptz)
       AND (CAST(:client AS text) IS NULL OR client = CAST(:client AS text))
     GROUP BY 1 ORDER BY 1
""")
_FOLDED: Final = UUID(int=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refreshes:
    """Refreshes within an hour, or some."""

    at: datetime  #: the beginning
    rotated: int
    failed: int  #: whatever else came of them


async def write_counts(engine: AsyncEngine, reporter: UUID, counts: Counts) -> None:
    """Store a process's counts so far.

    Args:
        engine: the process's connections.
        reporter: the process.
        counts: how many there have been since the hour, or the process, began.

    """
    parameters = {
        "reporter": reporter,
        "hours": [hour for hour, _client, _outcome in counts],
        "clients": [client for _hour, client, _outcome in counts],
        "outcomes": [outcome for _hour, _client, outcome in counts],
        "refreshes": list(counts.values()),
    }
    async with engine.begin() as connection:
        await connection.execute(_WRITE, parameters)


async def fold_hours(engine: AsyncEngine) -> None:
    """Add up the hours that are over, and forget those that are long past. Any number may do so at once."""
    async with engine.begin() as connection:
        await connection.execute(_FOLD, {"after": _FOLDED_AFTER, "folded": _FOLDED})
        await connection.execute(_FORGET, {"kept": KEPT})


async def read_hours(
    engine: AsyncEngine, *, since: datetime, width: timedelta, client: str | None
) -> Sequence[Refreshes]:
    """Return the refreshes since an instant; times without any are left out.

    Args:
        engine: the process's connections.
        since: a full hour.
        width: how much time is counted as one.
        client: only this client's.

    """
    async with engine.connect() as connection:
        rows = await connection.execute(_READ, {"since": since, "width": width, "client": client})
        return [Refreshes(at=row.at, rotated=row.rotated, failed=row.failed) for row in rows]
