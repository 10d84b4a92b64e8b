"""Waiting for a server: until it answers, on another port where one was taken, and not for ever."""

from __future__ import annotations

import itertools
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.integration.embedded_parent import is_gone
from worker.embedded import EmbeddedServiceError, start_bound
from worker.embedded.server_log import ServerLog
from worker.embedded.startup import LOOPBACK, START_PATIENCE, free_loopback_port, start_listening

SERVER = (
    "import signal, socket, sys\n"
    "server = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
    "print('listening', flush=True)\n"
    "signal.pause()\n"
)


class Trial:
    """Starts Python programs with a port as argument, and remembers their processes."""

    def __init__(self, folder: Path, program: str) -> None:
        self.log = ServerLog(folder / "server.log")
        self.program = program
        self.started: list[subprocess.Popen[bytes]] = []

    def launch(self, port: int) -> subprocess.Popen[bytes]:
        process = start_bound(
            [sys.executable, "-c", self.program, str(port)], death_signal=signal.SIGKILL, log_path=self.log.path
        )
        self.started.append(process)
        return process


def accepts(_process: subprocess.Popen[bytes], port: int) -> bool:
    """Whether something accepts connections there."""
    try:
        socket.create_connection((LOOPBACK, port), timeout=5).close()
    except OSError:
        return False
    return True


def test_port_taken_in_the_meantime_leads_to_another_one(tmp_path: Path) -> None:
    """A server that finds its port taken is started again on the next one, and only the one that answers is left."""
    trial = Trial(tmp_path, SERVER)
    with closing(socket.create_server((LOOPBACK, 0))) as taken:
        free = free_loopback_port()
        ports = iter([taken.getsockname()[1], free])

        running = start_listening(
            name="server",
            launch=trial.launch,
            answers=lambda process, port: port == free and accepts(process, port),
            log=trial.log,
            monotonic=time.monotonic,
            free_port=lambda: next(ports),
        )

    assert running.port == free
    assert [process.poll() is None for process in trial.started] == [False, True]
    running.process.kill()
    running.process.wait(timeout=30)


def test_ports_are_not_tried_for_ever(tmp_path: Path) -> None:
    """When every port is taken the start gives up and quotes the log."""
    trial = Trial(tmp_path, SERVER)
    with closing(socket.create_server((LOOPBACK, 0))) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(EmbeddedServiceError, match=r"(?s)server ended as it started.*Address already in use"):
            start_listening(
                name="server",
                launch=trial.launch,
                answers=lambda _process, _port: False,
                log=trial.log,
                monotonic=time.monotonic,
                free_port=lambda: port,
            )

    assert len(trial.started) == 5
    assert all(is_gone(process.pid) for process in trial.started)


def test_server_that_ends_is_not_started_again(tmp_path: Path) -> None:
    """A server that fails for a reason of its own is reported at once, with the end of its log and its path."""
    trial = Trial(tmp_path, "import sys; sys.exit('out of cheese')")

    with pytest.raises(EmbeddedServiceError, match="out of cheese") as raised:
        start_listening(
            name="server",
            launch=trial.launch,
            answers=lambda _process, _port: False,
            log=trial.log,
            monotonic=time.monotonic,
            free_port=free_loopback_port,
        )

    assert str(trial.log.path) in str(raised.value)
    assert len(trial.started) == 1


def test_server_that_never_answers_is_ended_at_the_deadline(tmp_path: Path) -> None:
    """A server that runs but does not answer in time is ended, and the error says how long was waited."""
    trial = Trial(tmp_path, SERVER)
    clock = itertools.count(0, START_PATIENCE / 4)

    with pytest.raises(EmbeddedServiceError, match=f"did not answer .* within {START_PATIENCE:.0f} s"):
        start_listening(
            name="server",
            launch=trial.launch,
            answers=lambda _process, _port: False,
            log=trial.log,
            monotonic=lambda: float(next(clock)),
            free_port=free_loopback_port,
        )

    assert [is_gone(process.pid) for process in trial.started] == [True]


def test_interrupted_start_leaves_no_server(tmp_path: Path) -> None:
    """A Ctrl-C while waiting ends the server that was being waited for."""
    trial = Trial(tmp_path, SERVER)

    def interrupt(_process: subprocess.Popen[bytes], _port: int) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start_listening(
            name="server",
            launch=trial.launch,
            answers=interrupt,
            log=trial.log,
            monotonic=time.monotonic,
            free_port=free_loopback_port,
        )

    assert [is_gone(process.pid) for process in trial.started] == [True]
