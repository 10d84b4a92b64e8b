"""The command line as its users run it: a process of its own, with an environment in which nothing else stands."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Final

from tests.secrecy import folder as secrecy
from tests.secrecy.told import tell

ROOT: Final = Path(__file__).parents[2]
_LIMIT_S: Final = 120.0  # a command takes a second; this only turns a hang into an error
_AT_ONCE: Final = 3  # commands mostly wait for their imports to be read


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What a command said, and how it ended."""

    code: int
    out: str
    err: str


def told(arguments: Sequence[str], ended: Ended) -> Ended:
    """Keep what a command said for the search for secrets, without what `token` is there to print; returns it."""
    tell("commands", ended.err if arguments[:1] == ("token",) else ended.out + ended.err)
    return ended


def run_each(commands: Sequence[tuple[CommandLine, Sequence[str]]]) -> list[Ended]:
    """Run commands that do not depend on each other, a few at once, and return their ends in order."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda pair: pair[0].run(*pair[1]), commands))


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """Runs `evergrant` in a folder, with these environment variables and no other.

    Args:
        folder: where it runs; without EVERGRANT_HOME_DIR and EVERGRANT_CONFIG it looks for both here.
        environment: EVERGRANT_… and what the configuration refers to.

    """

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def having(self, **changes: str | None) -> CommandLine:
        """Return the same with some variables changed, and those that are None left out."""
        merged = {**self.environment, **changes}
        return replace(self, environment={name: value for name, value in merged.items() if value is not None})

    def run(self, *arguments: str, stdin: str = "") -> Ended:
        """Run one command to its end."""
        done = subprocess.run(
            self._command(arguments),
            cwd=self.folder,
            env=self.whole_environment(),
            input=stdin,
            capture_output=True,
            check=False,
            text=True,
            timeout=_LIMIT_S,
        )
        return told(arguments, Ended(code=done.returncode, out=done.stdout, err=done.stderr))

    def start(self, *arguments: str, stderr: IO[bytes] | None = None) -> subprocess.Popen[Any]:
        """Start one command that goes on until it is stopped."""
        return subprocess.Popen(
            self._command(arguments),
            cwd=self.folder,
            env=self.whole_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )

    def _command(self, arguments: Sequence[str]) -> list[str]:
        return [sys.executable, "-W", "error", "-m", "worker.cli", *arguments]

    def whole_environment(self) -> dict[str, str]:
        """Return everything that stands in a command's environment."""
        # PYTHONPATH: the folder is not the checkout, and an interpreter that has it installed finds the same code.
        return {"PATH": os.environ["PATH"], **secrecy.environment(), **self.environment}
