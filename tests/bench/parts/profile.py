"""Where a worker's CPU time goes: py-spy's samples of its threads, kept in the report's folder.

Only a thread that holds the interpreter's lock is sampled: the others wait, for it or for something else.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import sysconfig
from collections import Counter
from pathlib import Path
from typing import Final

import psutil

from tests.bench import population
from tests.bench.contenders.contender import Cell
from tests.bench.contenders.evergrant import Evergrant, all_stored, prepare, wait_until_ready
from tests.bench.environment import with_packages
from tests.bench.findings import Findings, Table
from tests.bench.options import Options
from tests.bench.safety import safety_facts
from tests.bench.stacks import Costs, read_costs
from tests.bench.token_endpoint import Behaviour
from tests.bench.world import World
from worker.embedded import start_bound

_RATE: Final = 200  # samples a second: more of them slow the worker down
_SHOWN: Final = 10
_BEHAVIOUR: Final = Behaviour(latency=0.05)
_ENDS_WITHIN: Final = 60.0  # seconds for the worker's end and the writing of the samples


def measure(world: World, options: Options) -> Findings:
    """Let one worker rotate a population under py-spy, and sum up what it was doing."""
    grants = 3_000 if options.quick else 10_000
    cell = Cell(name="50 ms", behaviour=_BEHAVIOUR, grants=grants, at_most=240.0)
    stacks = world.report / "profile.txt"
    stacks.unlink(missing_ok=True)
    prepare(world, cell, resumed=False, grants=grants)
    with Evergrant(name="profile", workers=0).deployed(world) as deployment:
        deployment.processes["worker-1"] = spy = start_bound(
            (
                *(
                    _program("py-spy"),
                    "record",
                    "--format",
                    "raw",
                    "--function",
                    "--threads",
                    "--gil",
                    "--rate",
                    str(_RATE),
                ),
                *("--output", stacks, "--", sys.executable, "-m", "worker.cli", "worker"),
            ),
            death_signal=signal.SIGKILL,
            env=deployment.environment,
            cwd=deployment.folder,
            log_path=deployment.folder / "worker-1.log",
        )
        wait_until_ready(deployment)
        with world.connect() as connection:
            population.resume(connection)
        all_stored(world, grants, cell.at_most)
        for worker in psutil.Process(spy.pid).children():
            worker.terminate()
        with contextlib.suppress(TimeoutError):
            spy.wait(_ENDS_WITHIN)
    if not stacks.exists():
        raise RuntimeError(f"py-spy left no samples: {deployment.log('worker-1')[-2000:]}")
    costs = read_costs(stacks.read_text(encoding="utf-8").splitlines())
    return _findings(costs, grants, stacks, safety_facts(world, "profile"))


def _program(name: str) -> Path:
    """Return a program of the bench's packages, or of this environment where they were installed into it."""
    for folder in with_packages().get("PYTHONPATH", "").split(":"):
        if folder and (Path(folder) / "bin" / name).exists():
            return (Path(folder) / "bin" / name).resolve()
    return Path(sysconfig.get_path("scripts")) / name


def _findings(costs: Costs, grants: int, stacks: Path, safety: dict[str, float]) -> Findings:
    def table(title: str, counted: Counter[str]) -> Table:
        rows = tuple(
            (what, f"{1000 * count / _RATE / grants:.3f}", f"{100 * count / max(costs.samples, 1):.0f} %")
            for what, count in counted.most_common(_SHOWN)
        )
        return Table(title=title, headings=("", "ms a grant", "share"), rows=rows)

    every = f"{1000 * costs.samples / _RATE / grants:.2f} ms a grant in Python"
    return Findings(
        part="profile",
        tables=(
            table(f"The ten largest costs: functions of ours, with what they have libraries do ({every})", costs.ours),
            table("The threads in which it goes by", costs.threads),
            table("The ten packages in which the time goes by", costs.packages),
            table(f"The ten functions in which the time goes by (all stacks: {stacks.name})", costs.functions),
        ),
        facts=safety,
        data={
            "samples": costs.samples,
            "threads": costs.threads.most_common(),
            "ours": costs.ours.most_common(50),
            "packages": costs.packages.most_common(50),
            "functions": costs.functions.most_common(50),
        },
    )
