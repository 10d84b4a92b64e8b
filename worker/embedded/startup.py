"""Start a server on a free loopback port and wait until it really answers."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Final

from worker.embedded.bound import stop_in_steps
from worker.embedded.errors import EmbeddedServiceError
from worker.embedded.server_log import ServerLog

LOOPBACK: Final = "127.0.0.1"

START_PATIENCE: Final = 120.0
"""Seconds until a server must answer. Starts take under a second; replaying the log after a kill can take longer."""

KILL_STEPS: Final = ((signal.SIGKILL, 10.0),)
"""For a server that did not come up: it has nothing to lose."""

_POLL: Final = 0.03
"""Seconds between two attempts to connect: short beside a start of about 0.2 s."""

_ATTEMPTS: Final = 5
"""Ports to try: between our choosing a port and the server's binding it somebody else can take it."""

_WORTH_ANOTHER_PORT: Final = (
    "Address already in use",  # the race for the port, in both servers' words
    "is still in use",  # PostgreSQL: backends of a killed server are just about to notice
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """A server that answers: its process, and its port on 127.0.0.1."""

    process: subprocess.Popen[bytes]
    port: int


def free_loopback_port() -> int:
    """Return a TCP port that nobody uses on 127.0.0.1 at this moment."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def start_listening(
    *,
    name: str,
    launch: Callable[[int], subprocess.Popen[bytes]],
    answers: Callable[[subprocess.Popen[bytes], int], bool],
    log: ServerLog,
    monotonic: Callable[[], float],
    free_port: Callable[[], int],
) -> Listening:
    """Start a server on a free port, on another one where somebody was faster, and return it when it answers.

    Args:
        name: the server's name for error messages.
        launch: starts its process on the port given.
        answers: whether that process, on that port, serves requests; called again and again.
        log: where the process writes.
        monotonic: a clock in seconds for the deadline.
        free_port: chooses a port, another one at each call.

    Raises:
        EmbeddedServiceError: if it ends or does not answer in time; its log's end is quoted. Nothing is left running.
    """
    for _ in range(_ATTEMPTS):
        port = free_port()
        mark = log.size()
        process = launch(port)
        try:
            if _comes_up(process, port, answers, give_up=monotonic() + START_PATIENCE, monotonic=monotonic):
                return Listening(process=process, port=port)
        except BaseException:
            stop_in_steps(process, KILL_STEPS)
            raise
        if process.poll() is None:
            stop_in_steps(process, KILL_STEPS)
            message = f"{name} did not answer on {LOOPBACK}:{port} within {START_PATIENCE:.0f} s; {log.ending()}"
            raise EmbeddedServiceError(message)
        if not any(words in log.since(mark) for words in _WORTH_ANOTHER_PORT):
            break
    message = f"{name} ended as it started; {log.ending()}"
    raise EmbeddedServiceError(message)


def _comes_up(
    process: subprocess.Popen[bytes],
    port: int,
    answers: Callable[[subprocess.Popen[bytes], int], bool],
    *,
    give_up: float,
    monotonic: Callable[[], float],
) -> bool:
    """Return True once it answers; False when it has ended, or time is up."""
    while process.poll() is None and monotonic() < give_up:
        if answers(process, port):
            return process.poll() is None
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_POLL)
    return False
