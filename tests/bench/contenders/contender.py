"""What a contender is asked, and what is measured of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

import psycopg

from tests.bench.processes import cpu_seconds
from tests.bench.token_endpoint import Behaviour
from tests.bench.world import World

#: The rate is taken over the middle of a run: neither its start nor its last slow answers count.
_FROM: Final = 0.05
_TO: Final = 0.95
#: Seconds between two looks at whether a run is over.
LOOK_EVERY: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One column of the comparison: how the provider answers, and how much there is to do.

    Attributes:
        name: as it is shown.
        behaviour: how the endpoint answers.
        grants: how many there are, for a contender that gets through them.
        at_most: seconds after which a run is ended and what was done counts.

    """

    name: str
    behaviour: Behaviour
    grants: int
    at_most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one run came to.

    Attributes:
        contender: whose.
        cell: name of the column.
        grants: refreshed and stored.
        seconds: from the start to the last one stored.
        rate: grants a second, over the middle of the run.
        cpu_ms: CPU time of the contender's own processes a grant, milliseconds.
        database_cpu_ms: PostgreSQL's, milliseconds a grant.
        endpoint_cpu_ms: the token endpoint's, which is not what is measured.
        double_spends: refresh tokens that were presented again after they had been spent.
        lost: grants whose newest refresh token is not stored.
        in_doubt: grants of which that is known.

    """

    contender: str
    cell: str
    grants: int
    seconds: float
    rate: float
    cpu_ms: float
    database_cpu_ms: float
    endpoint_cpu_ms: float
    double_spends: int
    lost: int
    in_doubt: int = 0


class Contender(Protocol):
    """One way to refresh grants."""

    @property
    def name(self) -> str:
        """Return what it is called in the report."""

    def run(self, world: World, cell: Cell) -> Measured:
        """Refresh a column's grants once, and measure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """When grants were stored, by the database's clock."""

    grants: int
    seconds: float
    rate: float


class Meter:
    """Reads CPU times before and after the measured part of a run.

    Args:
        world: whose PostgreSQL and endpoint are read too.
        processes: the contender's own.

    """

    def __init__(self, world: World, processes: list[int]) -> None:
        self._world = world
        self._processes = processes
        self._after: tuple[float, float, float] | None = None
        self._before = self._read()

    def measured(self, contender: str, cell: Cell, stored: Stored, *, lost: int, in_doubt: int = 0) -> Measured:
        """Return what was measured since this was made."""
        assert self._after is not None, "stop comes first"
        own, database, endpoint = (
            1000 * (after - before) / max(stored.grants, 1)
            for before, after in zip(self._before, self._after, strict=True)
        )
        return Measured(
            contender=contender,
            cell=cell.name,
            grants=stored.grants,
            seconds=stored.seconds,
            rate=stored.rate,
            cpu_ms=own,
            database_cpu_ms=database,
            endpoint_cpu_ms=endpoint,
            double_spends=self._world.endpoint.counts().double_spends,
            lost=lost,
            in_doubt=in_doubt,
        )

    def stop(self) -> None:
        """End the measured part; the processes must still be there."""
        self._after = self._read()

    def _read(self) -> tuple[float, float, float]:
        return (
            cpu_seconds(self._processes),
            cpu_seconds([self._world.postgres]),
            self._world.endpoint.counts().cpu_seconds,
        )


def stored_since(connection: psycopg.Connection, table: str, began: datetime, ended: datetime | None = None) -> Stored:
    """Read off a table's `rotated_at` how fast grants were stored.

    Args:
        connection: to its database.
        table: `grants`, or one of `BaselineTable`.
        began: the start of the run, on the database's clock.
        ended: its end, for a contender that does not get through.

    """
    row = connection.execute(
        f"SELECT count(*), max(rotated_at), percentile_disc({_FROM}) WITHIN GROUP (ORDER BY rotated_at),"
        f" percentile_disc({_TO}) WITHIN GROUP (ORDER BY rotated_at) FROM {table}"
        " WHERE rotated_at BETWEEN %s AND coalesce(%s, 'infinity'::timestamptz)".encode(),
        [began, ended],
    ).fetchone()
    assert row is not None
    grants, last, early, late = row
    if grants == 0:
        return Stored(grants=0, seconds=0.0, rate=0.0)
    middle = (late - early).total_seconds()
    rate = (_TO - _FROM) * grants / middle if middle > 0 else 0.0
    return Stored(grants=grants, seconds=(last - began).total_seconds(), rate=rate)


def database_now(connection: psycopg.Connection) -> datetime:
    """Return the database's clock."""
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    now: datetime = row[0]
    return now


def wait_until(done: Callable[[], bool], seconds: float, every: float = LOOK_EVERY) -> bool:
    """Look now and again until something is so; tell whether it came to be within the time."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() >= deadline:
            return False
        time.sleep(every)
    return True
