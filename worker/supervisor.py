"""The processes of `evergrant up`: starts them, starts them again when they crash, and stops them in order.

Each is bound to this process: SIGKILL of it leaves nothing running.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

import httpx

from worker.bootstrap import monotonic
from worker.demo.configuration import DemoFiles
from worker.domain.secret import Secret
from worker.embedded import EmbeddedServices, start_bound, stop_in_steps
from worker.logging import get_logger

#: Seconds between looks at the processes.
_LOOK_EVERY: Final = 0.2
#: Seconds before a process that crashed is started again, so that a crash at start does not spin.
_RESTART_AFTER: Final = 1.0
#: Seconds for a process to end after SIGTERM: a worker finishes what it has sent (its own limit is 25 s).
_STOP_SECONDS: Final = 30.0
#: Seconds in which the web process answers, or something is wrong.
_START_SECONDS: Final = 60.0
_WRONG_SETUP: Final = 2
#: A port that only one of the processes can have: the web process, which serves what all of them count.
_OF_THE_WEB_PROCESS: Final = "EVERGRANT_METRICS_PORT"

log = get_logger("evergrant.up")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One process to keep running."""

    name: str
    argv: tuple[str, ...]
    log_path: Path | None = None  #: where its output goes; None: to ours


def free_port() -> int:
    """Return a port that nothing listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def port_is_free(port: int) -> bool:
    """Tell whether a loopback port can be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def environment_of(name: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return what one of the processes gets of the environment that they share."""
    return {
        variable: value
        for variable, value in environment.items()
        if name == "web" or not variable.startswith(_OF_THE_WEB_PROCESS)
    }


class Supervisor:
    """Runs the processes until told to stop.

    Args:
        environment: what all of them get.
        services: the embedded servers beneath them.
        home: EVERGRANT_HOME_DIR; shared metrics lie below it.
        port: the web process's.
        metrics_port: where it serves metrics; None: on the same one.
        demo: the demo's files, with `--demo`.
        sign_in: makes a link that signs the first operator in.
        say: prints a line for the person at the terminal.

    """

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        services: EmbeddedServices,
        home: Path,
        port: int,
        metrics_port: int | None,
        demo: DemoFiles | None,
        sign_in: Callable[[], Secret],
        say: Callable[[str], None],
    ) -> None:
        metrics = home / "metrics"
        shutil.rmtree(metrics, ignore_errors=True)
        metrics.mkdir()
        # Counters of all these processes are summed in one scrape of the web process.
        self._environment = {**environment, "PROMETHEUS_MULTIPROC_DIR": str(metrics)}
        self._services = services
        self._port = port
        self._metrics_port = port if metrics_port is None else metrics_port
        self._demo = demo
        self._sign_in = sign_in
        self._say = say
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._restart_at: dict[str, float] = {}
        self._stop = threading.Event()
        self._signals = 0

    def run(self) -> int:
        """Start everything, keep it running until a signal comes, stop everything; returns the exit code."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._told_to_stop)
        programs = self._programs()
        try:
            for program in programs:
                self._start(program)
            self._greet()
            return self._watch(programs)
        finally:
            self._stop_all(programs)

    def _programs(self) -> list[Program]:
        def evergrant(*arguments: str) -> tuple[str, ...]:
            return (sys.executable, "-m", "worker.cli", *arguments)

        programs = [
            Program(name="worker", argv=evergrant("worker")),
            Program(name="beat", argv=evergrant("beat")),
            Program(name="web", argv=evergrant("web", "--port", str(self._port))),
        ]
        if self._demo is not None:
            programs.insert(0, Program(name="sandbox", argv=self._demo.sandbox_argv, log_path=self._demo.sandbox_log))
            programs.append(Program(name="demo", argv=self._demo.demo_argv))
        return programs

    def _start(self, program: Program) -> None:
        self._running[program.name] = start_bound(
            program.argv,
            death_signal=signal.SIGKILL,
            env=environment_of(program.name, self._environment),
            cwd=Path.cwd(),
            log_path=program.log_path,
        )

    def _greet(self) -> None:
        address = f"http://127.0.0.1:{self._port}"
        deadline = monotonic() + _START_SECONDS
        while not self._stop.is_set() and monotonic() < deadline:
            if self._is_ready(address):
                lines = [
                    "",
                    f"  Evergrant is up:  {address}/",
                    f"  sign in:          {self._sign_in().reveal()}",
                    f"  metrics:          http://127.0.0.1:{self._metrics_port}/metrics",
                    *([f"  owners' mails:    {self._demo.mails_url}/"] if self._demo is not None else []),
                    "  The link signs in once, within an hour; `evergrant console link` prints another one.",
                    "  Ctrl-C stops everything.",
                    "",
                ]
                self._say("\n".join(lines))  # at once, for the processes write in between
                return
            if self._running["web"].poll() is not None:
                return  # `_watch` says why
            self._stop.wait(_LOOK_EVERY)

    def _is_ready(self, address: str) -> bool:
        try:
            return httpx.get(f"{address}/readyz", timeout=2.0, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def _watch(self, programs: list[Program]) -> int:
        while not self._stop.wait(_LOOK_EVERY):
            ended = self._services.ended()
            if ended is not None:
                log.error("server_ended", what=ended)
                return 1
            for program in programs:
                if self._has_wrong_setup(program):
                    return _WRONG_SETUP
        return 0

    def _has_wrong_setup(self, program: Program) -> bool:
        """Start a process again that has ended; tell whether it ended for a setting that a restart cannot mend."""
        code = self._running[program.name].poll()
        if code is None:
            return False
        if code == _WRONG_SETUP:
            return True
        if program.name == "demo" and code == 0:
            return False
        if program.name not in self._restart_at:
            log.error("process_ended", process=program.name, exit_code=code)
            self._restart_at[program.name] = monotonic() + _RESTART_AFTER
        elif monotonic() >= self._restart_at[program.name]:
            del self._restart_at[program.name]
            self._start(program)
        return False

    def _told_to_stop(self, _number: int, _frame: FrameType | None) -> None:
        self._signals += 1
        self._stop.set()
        if self._signals > 1:
            for process in self._running.values():
                process.kill()

    def _stop_all(self, programs: list[Program]) -> None:
        self._say("stopping: what was sent is finished first")
        # The sandbox answers what the worker still waits for, so it goes last.
        last = [program for program in programs if program.name == "sandbox"]
        for several in ([program for program in programs if program not in last], last):
            processes = [self._running[program.name] for program in several if program.name in self._running]
            for process in processes:
                if process.poll() is None:
                    process.terminate()
            for process in processes:
                # Told once: a second SIGTERM would hurry a worker that is finishing what it has sent.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_STOP_SECONDS)
                stop_in_steps(process, [(signal.SIGKILL, _STOP_SECONDS)])
        for process in self._running.values():
            process.wait()
