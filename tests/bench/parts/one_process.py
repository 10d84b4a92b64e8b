"""One process alone: the window between an answer and its commit, and what metrics and logs cost."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from typing import Any, Final

from tests.bench import population
from tests.bench.contenders.evergrant import WARM_UP, configuration
from tests.bench.findings import Findings, Table, spread
from tests.bench.one_process import Observed
from tests.bench.options import Options
from tests.bench.token_endpoint import Behaviour
from tests.bench.world import World

_IN_FLIGHT: Final = 100
_SATURATED: Final = Behaviour(latency=0.05)
#: 100 in flight make 250 grants a second of it, spread as in a steady state: the process has time.
_STEADY: Final = Behaviour(latency=0.4, jitter=0.5)
#: A disk that is not ours alone halts for 20 to 50 ms now and then: a median of several runs tells that from a habit.
_STEADY_RUNS: Final = 2
_AT_MOST: Final = 400.0  # seconds for one run


def measure(world: World, options: Options) -> Findings:
    """Drain a population in one process, in turns with everything observed, without logs, and with nothing."""
    grants = 1_500 if options.quick else 5_000
    runs: dict[str, list[dict[str, Any]]] = {observed.value: [] for observed in Observed}
    steady: list[dict[str, Any]] = []
    for turn in range(options.rounds):
        for observed in Observed:
            run = _drained(world, observed, grants, _SATURATED)
            runs[observed.value].append(run)
            world.say(f"  {turn + 1}/{options.rounds}  {observed.value:18} {run['cpu_ms']:6.2f} ms CPU a grant")
        for _ in range(_STEADY_RUNS):
            steady.append(_drained(world, Observed.EVERYTHING, grants // 2, _STEADY))
            window = _percentile(steady, 99)[-1]
            world.say(f"  {turn + 1}/{options.rounds}  steady             {window:6.2f} ms to the commit, 99 of 100")
    return _findings(runs, steady)


def _drained(world: World, observed: Observed, grants: int, behaviour: Behaviour) -> dict[str, Any]:
    world.endpoint.reset(grants + WARM_UP, behaviour)
    config = world.folder / "one-process.toml"
    config.write_text(configuration(world.endpoint.url, _IN_FLIGHT), encoding="utf-8")
    with world.connect() as connection:
        population.clear(connection)
        with (world.folder / "one-process.log").open("ab") as log:
            ended = subprocess.run(
                [
                    *(sys.executable, "-m", "tests.bench.one_process", "--config", config),
                    *("--home", world.folder / "home", "--grants", str(grants), "--observed", observed),
                ],
                env={
                    **os.environ,
                    "EVERGRANT_DATABASE_URL": world.database_url,
                    "EVERGRANT_KEYS": world.keys.reveal(),
                },
                stdout=subprocess.PIPE,
                stderr=log,
                timeout=_AT_MOST,
                check=True,
            )
        found = population.lost_tokens(connection, world.key_ring(), world.endpoint.generations())
    told: dict[str, Any] = json.loads(ended.stdout)
    told["lost"] = found.lost + found.in_doubt
    told["double_spends"] = world.endpoint.counts().double_spends
    return told


def _findings(runs: dict[str, list[dict[str, Any]]], steady: list[dict[str, Any]]) -> Findings:
    saturated = runs[Observed.EVERYTHING]
    cpu = {name: statistics.median(run["cpu_ms"] for run in found) for name, found in runs.items()}
    nothing = cpu[Observed.NOTHING]
    every = [*(run for found in runs.values() for run in found), *steady]
    facts = {
        "window_steady_median_ms": statistics.median(_percentile(steady, 50)),
        "window_steady_p99_ms": statistics.median(_percentile(steady, 99)),
        "window_saturated_median_ms": statistics.median(_percentile(saturated, 50)),
        "window_saturated_p99_ms": statistics.median(_percentile(saturated, 99)),
        "observing_ratio": cpu[Observed.EVERYTHING] / nothing,
        "telling_share_percent": _share(saturated),
        "double_spends:one-process": sum(run["double_spends"] for run in every),
        "lost:one-process": sum(run["lost"] for run in every),
    }
    tables = (
        Table(
            title=f"From an answer to its commit, {_IN_FLIGHT} in flight in one process",
            headings=("load", "answers", "grants/s", "half, ms", "99 of 100, ms", "worst, ms"),
            rows=(_window_row("a process that has time", steady), _window_row("as fast as it can", saturated)),
        ),
        Table(
            title="What observing costs",
            headings=("observed", "CPU ms a grant", "ratio"),
            rows=tuple(
                (name, spread([run["cpu_ms"] for run in found], 2), f"{cpu[name] / nothing:.2f} x")
                for name, found in runs.items()
            ),
            notes=(_share_note(saturated),),
        ),
    )
    percentiles = {"steady": _cuts(steady), "saturated": _cuts(saturated)}
    data = {"runs": {**runs, "steady": steady}, "window_ms_percentiles": percentiles}
    return Findings(part="one-process", tables=tables, facts=facts, data=data)


def _share(runs: list[dict[str, Any]]) -> float:
    """Return how large a part of a grant's CPU time metrics and logs are, in percent."""
    return float(statistics.median(100 * run["telling_ms"] / run["cpu_ms"] for run in runs))


def _share_note(runs: list[dict[str, Any]]) -> str:
    telling = statistics.median(run["telling_ms"] for run in runs)
    return (
        f"Told of again by itself, a grant's metrics and log line take {telling:.3f} ms: {_share(runs):.1f} % of all."
    )


def _cuts(runs: list[dict[str, Any]]) -> list[float]:
    """Return the 99 percentiles of the windows, milliseconds."""
    return statistics.quantiles((1000 * seconds for run in runs for seconds in run["windows"]), n=100)


def _percentile(runs: list[dict[str, Any]], percent: int) -> list[float]:
    """Return one percentile of each run's windows, milliseconds."""
    return [_cuts([run])[percent - 1] for run in runs]


def _window_row(load: str, runs: list[dict[str, Any]]) -> tuple[str, ...]:
    answers = sum(len(run["windows"]) for run in runs)
    worst = [1000 * max(run["windows"]) for run in runs]
    rates = [len(run["windows"]) / run["seconds"] for run in runs]
    half, most = (spread(_percentile(runs, percent), 1) for percent in (50, 99))
    return (load, f"{answers:,}", spread(rates), half, most, spread(worst, 1))
