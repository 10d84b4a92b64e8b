"""The comparison: grants refreshed and stored a second, and what each costs, side by side and in turns."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from tests.bench import names
from tests.bench.contenders.baseline_table import BaselineTable
from tests.bench.contenders.child import Children
from tests.bench.contenders.contender import Cell, Contender, Measured
from tests.bench.contenders.evergrant import Evergrant
from tests.bench.contenders.first_try import FirstTry
from tests.bench.findings import Findings, Table, spread
from tests.bench.options import Options
from tests.bench.token_endpoint import Behaviour
from tests.bench.world import World

#: Worker processes, and requests in flight in all of them together: for Evergrant and the bare loop alike.
PROCESSES: Final = 2
IN_FLIGHT: Final = 200

EVERGRANT: Final = Evergrant(workers=PROCESSES, in_flight_each=IN_FLIGHT // PROCESSES)


def _bare(name: str, api: str, *, dressed: bool) -> Children:
    return Children(
        name=name,
        module="tests.bench.contenders.bare_loop",
        processes=PROCESSES,
        arguments=("--api", api, "--in-flight", str(IN_FLIGHT // PROCESSES), *(("--dressed",) if dressed else ())),
        table=BaselineTable.SEALED if dressed else BaselineTable.CLEAR,
    )


#: The one that Evergrant is judged by: it sends as Evergrant does. The next two tell what aiohttp makes of it, and what
#: is left without any dress.
BARE_LOOP: Final = _bare(names.BARE_LOOP, "httpx", dressed=True)
BARE_AIOHTTP: Final = _bare("bare loop, aiohttp", "aiohttp", dressed=True)
UNDRESSED: Final = _bare("bare loop, aiohttp alone", "aiohttp", dressed=False)
A_TASK_EACH: Final = FirstTry(name=names.A_TASK_EACH, shared=False)
SHARED_CLIENT: Final = FirstTry(name=names.SHARED_CLIENT, shared=True)
LIBRARIES: Final = tuple(
    Children(
        name=f"{library}, one by one",
        module="tests.bench.contenders.library_loop",
        arguments=("--library", library),
    )
    for library in ("authlib", "requests-oauthlib")
)

CONTENDERS: Final[tuple[Contender, ...]] = (
    EVERGRANT,
    BARE_LOOP,
    BARE_AIOHTTP,
    UNDRESSED,
    A_TASK_EACH,
    SHARED_CLIENT,
    *LIBRARIES,
)

COLUMNS: Final = {
    names.NO_WAIT: Behaviour(),
    names.MIDDLE: Behaviour(latency=0.05),
    names.FAR: Behaviour(latency=0.2),
    names.TAIL: Behaviour(latency=0.05, tail_share=0.01, tail_latency=2.0, seed=20),
}


def cells(options: Options, contender: Contender) -> tuple[Cell, ...]:
    """Return a contender's columns: what is slow gets as long as it takes to know its rate, and no longer."""
    grants, at_most = (3_000, 60.0) if options.quick else (8_000, 120.0)
    if isinstance(contender, FirstTry):
        at_most = 5.0 if options.quick else 10.0
    elif contender in LIBRARIES:
        at_most = 3.0 if options.quick else 6.0
    rivals = {EVERGRANT, BARE_LOOP}
    if contender in {BARE_AIOHTTP, UNDRESSED} or (options.quick and contender not in rivals):
        wanted = {names.MIDDLE}
    else:
        wanted = {names.MIDDLE, names.TAIL} if options.quick else set(COLUMNS)
    return tuple(
        Cell(name=name, behaviour=behaviour, grants=grants, at_most=at_most)
        for name, behaviour in COLUMNS.items()
        if name in wanted
    )


def measure(world: World, options: Options) -> Findings:
    """Let everybody refresh every column, in turns, as often as there are rounds."""
    columns = {contender.name: cells(options, contender) for contender in CONTENDERS}
    turns = [
        (contender, cell)
        for name in COLUMNS
        for contender in CONTENDERS
        for cell in columns[contender.name]
        if cell.name == name
    ] * options.rounds
    runs: list[Measured] = []
    for contender, cell in turns:
        run = contender.run(world, cell)
        runs.append(run)
        world.say(f"  {len(runs):3d}/{len(turns)}  {cell.name:15}  {_line(run)}")
    return findings(runs)


def findings(runs: Sequence[Measured]) -> Findings:
    """Put the runs of all rounds together."""
    grouped: dict[tuple[str, str], list[Measured]] = defaultdict(list)
    for run in runs:
        grouped[run.contender, run.cell].append(run)
    facts = {
        f"{kind}:{name}:{column}": statistics.median(getattr(run, kind) for run in found)
        for (name, column), found in grouped.items()
        for kind in ("rate", "cpu_ms", "database_cpu_ms", "endpoint_cpu_ms")
    }
    ours = [run for run in runs if run.contender == EVERGRANT.name]
    facts["double_spends:refresh"] = sum(run.double_spends for run in ours)
    facts["lost:refresh"] = sum(run.lost + run.in_doubt for run in ours)
    facts["rotated:refresh"] = sum(run.grants for run in ours)
    return Findings(
        part="refresh",
        tables=(
            _table("Grants refreshed and stored a second", "rate", 0, runs),
            _table("CPU of its own processes, ms a grant", "cpu_ms", 2, runs),
            _table("CPU of PostgreSQL, ms a grant", "database_cpu_ms", 2, runs),
            _safety(runs),
        ),
        facts=facts,
        data={"runs": [asdict(run) for run in runs]},
    )


def _table(title: str, kind: str, digits: int, runs: Sequence[Measured]) -> Table:
    columns = list(dict.fromkeys(run.cell for run in runs))

    def shown(name: str, column: str) -> str:
        values = [getattr(run, kind) for run in runs if (run.contender, run.cell) == (name, column)]
        return spread(values, digits) if values else ""

    rows = tuple(
        (name, *(shown(name, column) for column in columns)) for name in dict.fromkeys(run.contender for run in runs)
    )
    return Table(title=title, headings=("contender", *columns), rows=rows)


def _safety(runs: Sequence[Measured]) -> Table:
    def total(name: str, kind: str) -> str:
        return f"{sum(getattr(run, kind) for run in runs if run.contender == name):,}"

    cost = statistics.median(run.endpoint_cpu_ms for run in runs if run.contender == EVERGRANT.name)
    return Table(
        title="What became of the tokens, all runs together",
        headings=("contender", "refreshed", "spent twice", "lost", "in doubt"),
        rows=tuple(
            (name, *(total(name, kind) for kind in ("grants", "double_spends", "lost", "in_doubt")))
            for name in dict.fromkeys(run.contender for run in runs)
        ),
        notes=(f"The token endpoint itself: {cost:.3f} ms of CPU a grant, beside Evergrant.",),
    )


def _line(run: Measured) -> str:
    return f"{run.contender:28} {run.rate:8,.0f}/s  {run.cpu_ms:6.2f} ms CPU  {run.grants:,} grants"
