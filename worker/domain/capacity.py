"""How much a number of grants asks for: rotations a second by simulation, and from these processes, connections, room.

The constants are measured: by `make bench` on two shared cores of 2026, and by filling a table. A machine of one's own
is another one, so the figures say where to begin; `make bench` says what it does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from worker.domain import schedule
from worker.domain.facts import Keep, TokenFacts

#: Seconds of one core that a worker spends on a grant: claim, request, settle (bench, parts "refresh" and "profile").
CPU_SECONDS: Final = 0.0008
#: Seconds of one of PostgreSQL's cores for a grant.
DATABASE_CPU_SECONDS: Final = 0.00012
#: Share of a core that is planned with: the rest is for retries, an outage's backlog and a slower machine.
PLANNED_SHARE: Final = 0.6
#: Bytes of memory of a worker process with 200 requests in flight (the bench's limit), and of beat and a web process.
WORKER_MEMORY: Final = 150 * 10**6
OTHER_MEMORY: Final = 120 * 10**6
#: Bytes that a grant takes in its table, without its two tokens and with them: pages are filled to 70 %.
GRANT_BYTES: Final = 495
BYTES_PER_TOKEN_BYTE: Final = 3.4
#: Bytes of a grant's index entries when new, and by how much steady rotation makes them grow.
INDEX_BYTES: Final = 480
INDEX_GROWTH: Final = 1.5
#: Bytes of one rotation in the lineage and of one event, indexes included.
ROTATION_BYTES: Final = 215
EVENT_BYTES: Final = 250
#: Events that a grant has in 90 days when all is well: it is adopted, and now and then something happens to it.
EVENTS_PER_GRANT: Final = 2
#: Parts into which the simulation cuts the longest time between two rotations, and how many such times it runs.
PARTS: Final = 400
PERIODS: Final = 12
#: Draws of chance by which the time between two rotations is known.
DRAWS: Final = 200

#: Of these periods the last ones, in which the steady rate is counted.
_COUNTED: Final = 6
_BEGIN: Final = datetime(2026, 1, 1, tzinfo=UTC)  # any instant: only the distance between two counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is asked for."""

    grants: int
    access_lifetime: timedelta
    latency: timedelta  #: of the token endpoint
    spread: timedelta  #: over which the grants were first refreshed, as `grants import --spread`
    token_bytes: int = 400  #: of one token; an opaque one has some 50, a signed one 1,000
    lineage: timedelta = timedelta(days=1)  #: `[worker] keep_rotations`
    in_flight: int = 200  #: `[worker] max_in_flight`
    worker_connections: int  #: that one worker process may hold to PostgreSQL
    web_connections: int  #: and one web process


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Rotations a second, as simulated."""

    steady: float  #: at the end, when chance has spread the grants out
    peak: float  #: in the worst part of the whole time


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What it takes."""

    rates: Rates
    in_flight: float  #: requests under way at once, at the peak
    per_worker: float  #: rotations a second that one worker process is planned with
    workers: int  #: one of them may be missing
    worker_memory: int  #: bytes, of all workers together
    memory: int  #: bytes, with two beats and two web processes
    connections: int
    database_cores: float
    grants_bytes: int
    lineage_bytes: int
    events_bytes: int
    catch_up: timedelta | None  #: after an hour's outage; None where the workers would never

    @property
    def database_bytes(self) -> int:
        """Return the size of everything in PostgreSQL."""
        return self.grants_bytes + self.lineage_bytes + self.events_bytes


def waits(access_lifetime: timedelta) -> list[float]:
    """Return seconds between two rotations of a grant, for evenly spread draws of chance."""
    facts = TokenFacts()
    draws = ((number + 0.5) / DRAWS for number in range(DRAWS))
    due = (
        schedule.rotate_at(
            issued_at=_BEGIN, keep=Keep.ACCESS, facts=facts, access=access_lifetime, refresh=None, draw=draw
        )
        for draw in draws
    )
    return [(at - _BEGIN).total_seconds() for at in due]


def simulate(grants: int, between: Sequence[float], spread: timedelta) -> Rates:
    """Follow all grants from their first refresh on, and return how many are rotated a second.

    Grants are a mass that moves, so a hundred million cost what ten do.

    Args:
        grants: how many.
        between: seconds between two rotations, each as likely as the others.
        spread: over which the first refreshes are spread evenly.

    """
    part = max(between) / PARTS
    steps = sorted(max(1, round(wait / part)) for wait in between)
    first = max(1, math.ceil(spread.total_seconds() / part))
    length = first + PARTS * PERIODS
    due = [0.0] * (length + steps[-1] + 1)
    for place in range(first):
        due[place] += grants / first
    shares = {step: steps.count(step) / len(steps) for step in set(steps)}
    for place in range(length):
        for step, share in shares.items():
            due[place + step] += due[place] * share
    # Whole periods, so that a herd which is not scattered yet is counted as often as it comes.
    window = round(_COUNTED * sum(steps) / len(steps))
    steady = sum(due[length - window : length]) / (window * part)
    return Rates(steady=steady, peak=max(due[:length]) / part)


def capacity(load: Load) -> Need:
    """Return what a load asks for."""
    between = waits(load.access_lifetime)
    rates = simulate(load.grants, between, load.spread)
    latency = max(load.latency.total_seconds(), 0.001)
    per_worker = min(PLANNED_SHARE / CPU_SECONDS, PLANNED_SHARE * load.in_flight / latency)
    workers = max(2, math.ceil(rates.steady / per_worker) + 1)
    events = load.grants * EVENTS_PER_GRANT
    return Need(
        rates=rates,
        in_flight=rates.peak * latency,
        per_worker=per_worker,
        workers=workers,
        worker_memory=workers * WORKER_MEMORY,
        memory=workers * WORKER_MEMORY + 4 * OTHER_MEMORY,
        connections=workers * load.worker_connections + 2 * load.web_connections,
        database_cores=rates.steady * DATABASE_CPU_SECONDS / PLANNED_SHARE,
        grants_bytes=int(
            load.grants * (GRANT_BYTES + BYTES_PER_TOKEN_BYTE * load.token_bytes + INDEX_BYTES * INDEX_GROWTH)
        ),
        lineage_bytes=int(rates.steady * load.lineage.total_seconds() * ROTATION_BYTES),
        events_bytes=events * EVENT_BYTES,
        catch_up=_catch_up(rates.steady, workers * per_worker / PLANNED_SHARE),
    )


def _catch_up(steady: float, most: float) -> timedelta | None:
    """Return how long an hour's backlog takes beside what goes on, with every core used up."""
    left = most - steady
    return timedelta(seconds=3600 * steady / left) if left > 0 else None
