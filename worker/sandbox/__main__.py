"""`python -m worker.sandbox`: one sandbox as a process; prints its address on one line, serves until told to stop."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Final

from worker.domain.secret import Secret
from worker.sandbox.server import serve
from worker.sandbox.store import StateFileError
from worker.sandbox.world import real_world

_OWNER_ONLY: Final = 0o600


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT and return the exit code: 0 done, 1 the port or state file cannot be had."""
    parser = argparse.ArgumentParser(
        prog="python -m worker.sandbox",
        description="An authorization server that rotates, detects reuse and misbehaves on order.",
        epilog="example: python -m worker.sandbox --port 0 --state sandbox.db --control-token-file control-token",
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=0, help="the port; 0, the default, takes a free one")
    parser.add_argument("--state", type=Path, help="the file that keeps the state; in memory without it")
    parser.add_argument(
        "--control-token-file",
        type=Path,
        required=True,
        help="the file with the control API's bearer token; made with a new token when missing",
    )
    parser.add_argument("--seed", type=int, help="repeats the draws of faults and latency")
    chosen = parser.parse_args(arguments)
    world = real_world(seed=chosen.seed)
    try:
        serve(
            host=chosen.host,
            port=chosen.port,
            state_path=chosen.state,
            control_token=_control_token(chosen.control_token_file, new_token=world.new_token()),
            world=world,
            on_ready=lambda address: print(address, flush=True),  # noqa: T201 - the one line it is for
        )
    except (OSError, ValueError, StateFileError) as error:
        print(f"sandbox: {error}", file=sys.stderr)  # noqa: T201 - a program's error goes to its terminal
        return 1
    return 0


def _control_token(path: Path, *, new_token: str) -> Secret:
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY), "w") as file:
            file.write(new_token + "\n")
    except FileExistsError:
        token = path.read_text().strip()
        if not token:
            message = f"{path} is empty; write a control token into it, or remove it to have one made"
            raise ValueError(message) from None
        return Secret(token)
    return Secret(new_token)


if __name__ == "__main__":
    sys.exit(main())
