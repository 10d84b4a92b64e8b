"""`python -m tests.bench.access_token`: only the part of the bench that asks for access tokens, and only its table."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench.environment import hide_packages
from tests.bench.options import read_options
from tests.bench.parts import access_token
from tests.bench.world import running_world
from worker.logging import configure_logging


def main() -> None:
    """Measure and print."""
    options = read_options(sys.argv[1:], ["access-token"])
    hide_packages()
    configure_logging("json", "warning")
    options.out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="work-", dir=options.out) as work:
        Path(work).chmod(0o711)  # PostgreSQL runs as another user where we are root
        with running_world(Path(work), options.out, lambda line: print(line, flush=True)) as world:
            found = access_token.measure(world, options)
    for table in found.tables:
        print("\n".join(table.lines()), flush=True)


if __name__ == "__main__":
    main()
