"""`evergrant drill`: the fault campaign."""

from __future__ import annotations

import random  # noqa: TID251 -- a drill draws its plan from a seed of its own, and this is where the seed comes in
import secrets
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Annotated, Final

import typer

from worker.bootstrap import monotonic
from worker.commands.console import AsJson, print_json
from worker.drill.campaign import Campaign
from worker.drill.clients import CLIENTS
from worker.drill.plan import make_plan
from worker.drill.reading import key_ring, read_views
from worker.drill.report import DrillResult, as_json, as_table
from worker.drill.verdict import judge
from worker.drill.world import World, WorldSize

_TOKEN_BYTES: Final = 24
_SEEDS: Final = 1_000_000
_BROKEN: Final = 1
_INTERRUPTED: Final = 130


def drill(
    *,
    rotations: Annotated[int, typer.Option(min=1, help="Rotations to make while faults are committed.")] = 5000,
    faults: Annotated[int, typer.Option(min=0, help="Faults to commit.")] = 300,
    seed: Annotated[int | None, typer.Option(help="Repeats a plan; drawn and printed if left out.")] = None,
    workers: Annotated[int, typer.Option(min=2, help="Worker processes.")] = 3,
    grants: Annotated[int, typer.Option(min=len(CLIENTS), help="Grants, over four clients.")] = 300,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the folder with data and logs in any case.")] = False,
    as_json_: AsJson = False,
) -> None:
    """Run the fault campaign against the sandbox: kill, cut, stall, restart, misbehave; then count what was lost.

    It needs nothing and touches nothing of yours: database, broker, provider and grants are thrown away afterwards.
    Exit code 1 if a promise was broken; then the folder with all logs stays, and its path is printed.

    Example: evergrant drill --rotations 300 --faults 20
    """
    chosen = secrets.randbelow(_SEEDS) if seed is None else seed
    home = Path(tempfile.mkdtemp(prefix="evergrant-drill-"))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)

    def say(line: str) -> None:
        typer.echo(line, file=sys.stderr if as_json_ else sys.stdout)

    say(f"seed {chosen}, {rotations} rotations, {faults} faults, {workers} workers, {grants} grants, in {home}")

    def note(line: str) -> None:
        with (home / "drill.log").open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%H:%M:%S', time.gmtime())} {line}\n")

    is_kept = keep
    try:
        chance = random.Random(chosen)  # noqa: S311 -- decides which fault comes next; no secret comes from it
        plan = make_plan(faults=faults, rotations=rotations, clients=len(CLIENTS), draw=chance.random)
        size = WorldSize(workers=workers, grants=grants)
        world = World(home, size=size, seed=chosen, token=_token, monotonic=monotonic, wait=time.sleep)
        with world:
            run = Campaign(world, plan, rotations=rotations, say=say, note=note, clock=time.time).run()  # noqa: TID251 -- to compare with others' records
            ended = world.processes.ended_by_themselves
            exits = {"ended by themselves": ended, "were told to end at last": world.processes.stop()}
            views = read_views(world, key_ring(world.settings.require_keys()))
        result = DrillResult(seed=chosen, run=run, views=views, findings=judge(views, run), exits=exits)
        if as_json_:
            print_json(as_json(result))
        else:
            typer.echo("\n".join(["", *as_table(result)]))
        is_kept = is_kept or not result.findings.are_kept
    except Exception:
        is_kept = True
        raise
    finally:
        if is_kept:
            say(f"data and logs are kept in {home}")
        else:
            shutil.rmtree(home, ignore_errors=True)
    if not result.findings.are_kept:
        raise typer.Exit(_BROKEN)


def _token() -> str:
    return secrets.token_urlsafe(_TOKEN_BYTES)


def _stop(_number: int, _frame: FrameType | None) -> None:
    sys.exit(_INTERRUPTED)
