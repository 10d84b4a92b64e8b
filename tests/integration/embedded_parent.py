"""For the tests of the embedded services: a parent process that can be killed, and waiting until its children are gone.

Run as a program (`python -m tests.integration.embedded_parent HOME`) it starts both services on HOME, prints one line
of JSON about them, and stays until its standard input ends.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from worker.embedded import EmbeddedServices, exec_bound
from worker.embedded.service_user import Capability

ROOT: Final = Path(__file__).parents[2]

GONE_WITHIN: Final = 5.0
"""Seconds that a killed parent's services may take to be gone."""


def token() -> str:
    """Return a password, as the composition root makes it."""
    return secrets.token_urlsafe(24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """A process that runs embedded services, the URLs of these and the pids of all their processes."""

    process: subprocess.Popen[str]
    database_url: str
    broker_url: str
    pids: tuple[int, ...]


def interpreter_environment() -> dict[str, str]:
    """Return an environment in which a child interpreter finds the same packages as this one."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}


def parent_command(home: Path, *, user: int | None = None) -> list[str]:
    """Return the command that runs this file as a program on `home`, as another user where root asks for one.

    That user keeps the right to enter directories, without which it could not reach root's interpreter.
    """
    command = [sys.executable, "-W", "error", "-m", "tests.integration.embedded_parent", str(home)]
    if user is None:
        return command
    capability = str(Capability.DAC_READ_SEARCH.value)
    steps = [str(os.getpid()), str(signal.SIGKILL.value), str(user), str(user), capability]
    return [sys.executable, "-I", "-S", exec_bound.__file__, *steps, *command]


@contextmanager
def running_parent(home: Path, *, user: int | None = None) -> Iterator[Parent]:
    """Start this file as a program on `home`, and see that nothing of it is left in the end."""
    process = subprocess.Popen(
        parent_command(home, user=user),
        cwd=ROOT,
        env=interpreter_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, "the parent process ended before its services were up; see its error output"
            about = json.loads(line)
            yield Parent(
                process=process,
                database_url=about["database_url"],
                broker_url=about["broker_url"],
                pids=tuple(about["pids"]),
            )
        finally:
            process.kill()


def is_gone(pid: int) -> bool:
    """Whether no such process runs; one that only waits to be reaped runs no more."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def left_after(pids: tuple[int, ...], *, seconds: float = GONE_WITHIN) -> list[int]:
    """Return which of the processes still run when they all should have gone, looking again until `seconds` are up."""
    deadline = time.monotonic() + seconds
    left = [pid for pid in pids if not is_gone(pid)]
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left = [pid for pid in left if not is_gone(pid)]
    return left


def processes_naming(text: str) -> list[int]:
    """Return the pids of running processes with `text` on their command line, this one left out."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "status"]):
        words = process.info["cmdline"] or []
        if process.pid != os.getpid() and process.info["status"] != psutil.STATUS_ZOMBIE and text in "\0".join(words):
            found.append(process.pid)
    return found


def visible_to_others(pid: int) -> bytes:
    """Return the command lines and environments of a process and all its descendants."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return b"".join(
        Path(f"/proc/{process.pid}/{name}").read_bytes() for process in family for name in ("cmdline", "environ")
    )


def _main(home: Path) -> None:
    services = EmbeddedServices(
        home, want_database=True, want_broker=True, token=token, monotonic=time.monotonic, durable=True
    )
    with services:
        urls = json.loads((services.home / "running.json").read_text(encoding="utf-8"))
        pids = [child.pid for child in psutil.Process().children(recursive=True)]
        print(json.dumps({**urls, "pids": pids}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
