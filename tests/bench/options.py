"""What the command line of the bench asks for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: Kept out of version control.
DEFAULT_OUT: Final = Path(".evergrant/bench")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to measure, and how long.

    Attributes:
        parts: names of the parts, in their order.
        quick: one short round of each: shows that everything works, and ratios roughly.
        rounds: how often the contenders take turns.
        out: the folder of the report.
        steady_minutes: how long the steady state is held.

    """

    parts: tuple[str, ...]
    quick: bool
    rounds: int
    out: Path
    steady_minutes: float


def read_options(arguments: Sequence[str], parts: Sequence[str]) -> Options:
    """Read the command line; ends the process with exit code 2 where it is wrong.

    Args:
        arguments: after the program's name.
        parts: the names that there are, in their order.

    """
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="Measures speed and scale on servers of its own. Prints tables, and leaves report.txt, report.json "
        "and plots in a folder.",
        epilog="Example: make bench BENCH_OPTIONS='--only refresh --quick'",
    )
    named = f"of: {', '.join(parts)}"
    parser.add_argument("--only", action="append", metavar="PART", choices=parts, help=f"only this part ({named})")
    parser.add_argument("--skip", action="append", metavar="PART", choices=parts, help="not this part")
    parser.add_argument("--quick", action="store_true", help="one short round of each: some minutes instead of forty")
    parser.add_argument("--rounds", type=int, help="how often the contenders take turns (3, with --quick 1)")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help=f"the report's folder ({DEFAULT_OUT})")
    parser.add_argument("--steady-minutes", type=float, help="how long the steady state is held (10, with --quick 0.5)")
    given = parser.parse_args(arguments)
    if given.rounds is not None and given.rounds < 1:
        parser.error("--rounds takes a number from 1")
    chosen = [name for name in parts if name in (given.only or parts) and name not in (given.skip or ())]
    if not chosen:
        parser.error("--only and --skip leave nothing to measure")
    return Options(
        parts=tuple(chosen),
        quick=given.quick,
        rounds=given.rounds or (1 if given.quick else 3),
        out=given.out.resolve(),
        steady_minutes=given.steady_minutes or (0.5 if given.quick else 10.0),
    )
