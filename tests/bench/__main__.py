"""`python -m tests.bench`, which `make bench` calls: measures part by part, then prints and leaves the report."""

from __future__ import annotations

import signal
import sys
import time
import traceback
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Final, NoReturn

from tests.bench import reach, report
from tests.bench.environment import hide_packages
from tests.bench.findings import Findings
from tests.bench.options import Options, read_options
from tests.bench.parts import access_token, claims, console, keepalive, one_process, profile, refresh, scaling, steady
from tests.bench.world import World, running_world
from worker.logging import configure_logging

PARTS: Final[dict[str, Callable[[World, Options], Findings]]] = {
    "refresh": refresh.measure,
    "one-process": one_process.measure,
    "scaling": scaling.measure,
    "claims": claims.measure,
    "keepalive": keepalive.measure,
    "access-token": access_token.measure,
    "console": console.measure,
    "profile": profile.measure,
    "steady": steady.measure,
}


def main() -> int:
    """Measure; return 1 when a limit is missed."""
    options = read_options(sys.argv[1:], list(PARTS))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    hide_packages()
    configure_logging("json", "warning")
    options.out.mkdir(parents=True, exist_ok=True)
    about = report.machine(datetime.now().astimezone())  # noqa: TID251 -- a program of its own; the report says when
    # Beside the report, not under /tmp: that may be memory, and the largest table has gigabytes.
    with TemporaryDirectory(prefix="work-", dir=options.out) as work:
        Path(work).chmod(0o711)  # PostgreSQL runs as another user where we are root
        with running_world(Path(work), options.out, _say) as world:
            found = [_measured(name, world, options) for name in options.parts]
    measured = [findings for findings in found if findings is not None]
    print(report.write(options.out, measured, about), flush=True)
    print(f"report.txt, reach.md, report.json and bench.png are in {options.out}", flush=True)
    missed = [f"missed: {measure}" for measure in reach.failures(report.facts_of(measured))]
    broken = [f"not finished: {name}" for name, findings in zip(options.parts, found, strict=True) if findings is None]
    for complaint in (*missed, *broken):
        print(complaint, file=sys.stderr)
    return 1 if missed or broken else 0


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    """End as at the end of a run: everything that was started is stopped, and its folder removed."""
    sys.exit(128 + number)


def _measured(name: str, world: World, options: Options) -> Findings | None:
    """Return what a part found; None where it broke, for half an hour of others must not be lost with it."""
    began = time.monotonic()
    _say(f"{name} ...")
    try:
        found = PARTS[name](world, options)
    except Exception:  # noqa: BLE001 -- said here, and once more at the end
        traceback.print_exc()
        return None
    _say(f"{name}: {time.monotonic() - began:.0f} s")
    return found


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
