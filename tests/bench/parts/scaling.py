"""From one worker process to four, and the memory of one with 200 requests in flight."""

from __future__ import annotations

import statistics
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Final

from tests.bench import population
from tests.bench.contenders.contender import Cell, Measured
from tests.bench.contenders.evergrant import Evergrant, all_stored, prepare
from tests.bench.findings import Findings, Table, spread
from tests.bench.options import Options
from tests.bench.processes import resident_bytes
from tests.bench.safety import safety_facts
from tests.bench.token_endpoint import Behaviour
from tests.bench.world import World

#: A slow provider and few places in each process: what limits is how many requests are under way.
_WAITS: Final = "200 ms, 50 in flight each"
#: A provider that answers at once: what limits is the cores, which the database and the provider need too.
_WORKS: Final = "0 ms, 50 in flight each"
_IN_FLIGHT_EACH: Final = 50
_BEHAVIOURS: Final = {_WAITS: Behaviour(latency=0.2), _WORKS: Behaviour()}

_MEMORY_IN_FLIGHT: Final = 200
_MEMORY_CELL: Final = Cell(name="200 ms", behaviour=Behaviour(latency=0.2), grants=5_000, at_most=120.0)
_SAMPLE_EVERY: Final = 0.1  # seconds
_MEGA: Final = 10**6


def measure(world: World, options: Options) -> Findings:
    """Run with one to four processes, in turns, and look at the memory of one."""
    counts, names = ((1, 2, 4), (_WAITS,)) if options.quick else ((1, 2, 3, 4), tuple(_BEHAVIOURS))
    runs: list[tuple[int, Measured]] = []
    for _ in range(options.rounds):
        for name in names:
            for workers in counts:
                cell = Cell(name=name, behaviour=_BEHAVIOURS[name], grants=_grants(workers, options), at_most=120.0)
                run = Evergrant(workers=workers, in_flight_each=_IN_FLIGHT_EACH).run(world, cell)
                runs.append((workers, run))
                world.say(f"  {name}: {workers} processes {run.rate:8,.0f}/s  {run.cpu_ms:6.2f} ms CPU")
    memory = _memory(world)
    world.say(f"  memory of one worker with {_MEMORY_IN_FLIGHT} in flight: {memory / _MEGA:.0f} MB")
    return _findings(runs, memory, safety_facts(world, "memory"))


def _grants(workers: int, options: Options) -> int:
    return workers * (800 if options.quick else 1_500)


def _memory(world: World) -> int:
    """Return the most memory that one worker process held while it worked, bytes."""
    contender = Evergrant(name="memory", workers=1, in_flight_each=_MEMORY_IN_FLIGHT)
    prepare(world, _MEMORY_CELL, resumed=False, grants=_MEMORY_CELL.grants)
    with contender.deployed(world) as deployment, _highest(deployment.processes["worker-1"].pid) as highest:
        with world.connect() as connection:
            population.resume(connection)
        all_stored(world, _MEMORY_CELL.grants, _MEMORY_CELL.at_most)
    return highest[0]


@contextmanager
def _highest(process: int) -> Iterator[list[int]]:
    """Keep the most memory that a process held during a `with` block."""
    seen, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(_SAMPLE_EVERY):
            seen[0] = max(seen[0], resident_bytes(process))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield seen
    finally:
        over.set()
        watching.join()


def _findings(runs: Sequence[tuple[int, Measured]], memory: int, safety: Mapping[str, float]) -> Findings:
    turns = list(dict.fromkeys((run.cell, workers) for workers, run in runs))

    def of(name: str, workers: int) -> list[Measured]:
        return [run for count, run in runs if (run.cell, count) == (name, workers)]

    def rate(name: str, workers: int) -> float:
        return statistics.median(run.rate for run in of(name, workers))

    rows = tuple(
        (
            name,
            str(workers),
            spread([run.rate for run in of(name, workers)]),
            f"{rate(name, workers) / rate(name, 1):.2f} x" if rate(name, 1) else "",
            spread([run.cpu_ms for run in of(name, workers)], 2),
        )
        for name, workers in turns
    )
    return Findings(
        part="scaling",
        tables=(
            Table(
                title="More worker processes",
                headings=("provider", "processes", "grants/s", "against one", "CPU ms a grant"),
                rows=rows,
                notes=(f"One worker process with {_MEMORY_IN_FLIGHT} in flight: {memory / _MEGA:.0f} MB at most.",),
            ),
        ),
        facts={
            **{f"scaling:{name}:{workers}": rate(name, workers) for name, workers in turns},
            "worker_megabytes": memory / _MEGA,
            "double_spends:scaling": sum(run.double_spends for _, run in runs),
            **safety,
            "lost:scaling": sum(run.lost + run.in_doubt for _, run in runs),
        },
        data={"runs": [{"workers": workers, **asdict(run)} for workers, run in runs], "worker_bytes": memory},
    )
