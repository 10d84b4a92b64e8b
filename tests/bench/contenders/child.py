"""Contenders that are a small program of their own: it says `ready`, begins at `go`, says `done`, and waits.

Its standard input is how it learns that the bench is gone.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tests.bench.contenders import baseline_table
from tests.bench.contenders.baseline_table import BaselineTable
from tests.bench.contenders.contender import Cell, Measured, Meter, database_now, stored_since
from tests.bench.environment import with_packages
from tests.bench.world import World

_ENDS_WITHIN = 10.0  # seconds after its input has ended
_LATE = 30.0  # seconds beyond its time after which a program hangs


@dataclass(frozen=True, slots=True, kw_only=True)
class Children:
    """A contender made of such programs.

    Attributes:
        name: in the report.
        module: what is run.
        processes: how many, each with its share of the grants.
        arguments: further ones.
        table: where its grants are.

    """

    name: str
    module: str
    processes: int = 1
    arguments: tuple[str, ...] = ()
    table: BaselineTable = BaselineTable.CLEAR

    def run(self, world: World, cell: Cell) -> Measured:
        """Refresh a column's grants once, and measure."""
        world.endpoint.reset(cell.grants, cell.behaviour)
        with world.connect(world.baseline_url) as connection:
            baseline_table.fill(connection, self.table, cell.grants, world.key_ring())
            commands = [self._command(world, cell, part) for part in range(self.processes)]
            with _started(commands, {**with_packages(), "BENCH_KEYS": world.keys.reveal()}) as children:
                meter = Meter(world, [child.pid for child in children])
                began = database_now(connection)
                for child in children:
                    _say(child, "go")
                for child in children:
                    _hear(child, "done", cell.at_most + _LATE)
                meter.stop()
            stored = stored_since(connection, self.table, began)
            lost = baseline_table.lost_tokens(connection, self.table, world.endpoint.generations(), world.key_ring())
            return meter.measured(self.name, cell, stored, lost=lost)

    def _command(self, world: World, cell: Cell, part: int) -> list[str]:
        return [
            *(sys.executable, "-m", self.module),
            *("--endpoint", world.endpoint.url, "--database", world.baseline_url, "--seconds", str(cell.at_most)),
            *("--part", str(part), "--parts", str(self.processes)),
            *self.arguments,
        ]


@contextmanager
def _started(
    commands: Sequence[Sequence[str]], environment: Mapping[str, str]
) -> Iterator[list[subprocess.Popen[str]]]:
    children = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for command in commands
    ]
    try:
        for child in children:
            _hear(child, "ready", _LATE)
        yield children
    finally:
        for child in children:
            assert child.stdin is not None
            child.stdin.close()
        for child in children:
            try:
                child.wait(_ENDS_WITHIN)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            assert child.stdout is not None
            child.stdout.close()


def _say(child: subprocess.Popen[str], word: str) -> None:
    assert child.stdin is not None
    child.stdin.write(f"{word}\n")
    child.stdin.flush()


def _hear(child: subprocess.Popen[str], word: str, seconds: float) -> None:
    assert child.stdout is not None
    hangs = threading.Timer(seconds, child.kill)
    hangs.start()
    try:
        heard = child.stdout.readline().strip()
    finally:
        hangs.cancel()
    if heard != word:
        raise RuntimeError(f"{' '.join(map(str, child.args))} said {heard!r} and not {word!r}")  # type: ignore[arg-type]
