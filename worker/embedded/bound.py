"""Child processes that cannot outlive their parent, and how they are stopped.

A parent that is killed with SIGKILL runs no clean-up code, so the kernel has to do it: each child asks for a signal at
its parent's death (prctl(2), PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from worker.embedded import exec_bound
from worker.embedded.errors import EmbeddedServiceError
from worker.embedded.service_user import ServiceUser

_PRIVATE_UMASK: Final = 0o077
"""Servers write data and logs: for their own user only."""

_PRIVATE_FILE: Final = 0o600

_APPEND: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
"""Not through a symbolic link: root appends to a log in a folder that belongs to another user."""

_HANDED_DOWN: Final = ("PATH", "LD_LIBRARY_PATH")
"""What a server (and the interpreter that starts it) may need to find its libraries and programs."""


def bare_environment() -> dict[str, str]:
    """Return the environment for a server: none of our settings (they hold secrets), messages in English, UTC."""
    kept = {name: os.environ[name] for name in _HANDED_DOWN if name in os.environ}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def _require_linux() -> None:
    if sys.platform != "linux":
        message = (
            f"embedded services need Linux, this is {sys.platform}: run your own PostgreSQL and Valkey or Redis, "
            "and set EVERGRANT_DATABASE_URL and EVERGRANT_BROKER_URL"
        )
        raise EmbeddedServiceError(message)


def start_bound(
    argv: Sequence[str | Path],
    *,
    death_signal: signal.Signals,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    log_path: Path | None = None,
    as_user: ServiceUser | None = None,
) -> subprocess.Popen[bytes]:
    """Start a child process that the kernel signals when this process goes, however it goes.

    The child is in a session of its own, so a Ctrl-C at the terminal reaches it only through us. It reads nothing.
    If the program cannot be executed the child exits with `exec_bound.CANNOT_START` and says why in its log.

    Args:
        argv: an absolute program path and its arguments; visible to every user of the machine, so never a secret.
        death_signal: what the child gets when this process ends.
        env: the child's environment; None hands down ours.
        cwd: the child's working directory; None keeps ours.
        log_path: where its output is appended (created with mode 0600); None shares our output.
        as_user: the user to become; only root may ask for one.

    Returns:
        The process; its pid is the program's own.

    Raises:
        EmbeddedServiceError: on a system other than Linux.
        RuntimeError: if not called from the main thread. The death signal fires when the *thread* that started the
            child ends, so a child of any other thread would be killed too early.
    """
    _require_linux()
    if threading.current_thread() is not threading.main_thread():
        message = (
            f"start_bound was called from thread {threading.current_thread().name!r}: call it from the main thread, "
            "because the child is killed when the thread that started it ends"
        )
        raise RuntimeError(message)
    nothing = exec_bound.NOTHING
    uid, gid, capability = (nothing, nothing, nothing)
    if as_user is not None:
        uid, gid = str(as_user.uid), str(as_user.gid)
        capability = nothing if as_user.capability is None else str(as_user.capability.value)
    launcher = [sys.executable, "-I", "-S", exec_bound.__file__]
    steps = [str(os.getpid()), str(death_signal.value), uid, gid, capability]
    with contextlib.ExitStack() as closing:
        output: IO[bytes] | None = None
        if log_path is not None:
            descriptor = os.open(log_path, _APPEND, _PRIVATE_FILE)
            output = closing.enter_context(os.fdopen(descriptor, "ab"))
        return subprocess.Popen(
            [*launcher, *steps, *(os.fspath(part) for part in argv)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=env,
            cwd=cwd,
            start_new_session=True,
            umask=_PRIVATE_UMASK if log_path is not None else -1,
        )


def stop_in_steps(process: subprocess.Popen[bytes], steps: Sequence[tuple[signal.Signals, float]]) -> None:
    """Send each signal in turn until `process` has ended; a process that has ended is left alone.

    Args:
        process: the child, started by this process.
        steps: pairs of a signal and how many seconds the process then has to end.

    Raises:
        EmbeddedServiceError: if it still runs after the last step.
    """
    for number, patience in steps:
        if process.poll() is not None:
            return
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=patience)
    if process.poll() is None:
        message = f"process {process.pid} still runs after {[number.name for number, _ in steps]}: look at it with ps"
        raise EmbeddedServiceError(message)


def bind_to_parent() -> None:
    """Have the calling process killed (SIGKILL) as soon as the process that started it goes.

    For `evergrant up --with-parent`: `make` can be killed in ways in which it does not tell its children. Call it first
    thing. It binds to the direct parent: where a shell stands between, that shell must `exec` the command.

    Raises:
        EmbeddedServiceError: on a system other than Linux, or if the parent went away during the call.
    """
    _require_linux()
    parent = os.getppid()
    exec_bound.set_death_signal(signal.SIGKILL)
    if os.getppid() != parent:
        message = f"the process that started this one (pid {parent}) has gone: nothing is started"
        raise EmbeddedServiceError(message)
