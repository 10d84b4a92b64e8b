"""The drill's worker and beat processes: started, watched, killed, and started again."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from worker.domain.errors import EvergrantError
from worker.embedded import start_bound, stop_in_steps

#: Seconds before a process that ended by itself is started again: as a supervisor does it, without spinning.
_RESTART_AFTER: Final = 1.0
#: Seconds for a process to end after SIGTERM: its own limit is 15 s (`clients.configuration`).
_STOP_SECONDS: Final = 30.0
_WRONG_SETUP: Final = 2


class Processes:
    """Keeps a set of `evergrant` processes running.

    Args:
        folder: where they run and log, `<name>.log`.
        environment: what each gets.
        monotonic: a clock in seconds.

    Attributes:
        ended_by_themselves: how often a process ended without having been told to, by name and exit code.

    """

    def __init__(self, folder: Path, environment: Mapping[str, str], monotonic: Callable[[], float]) -> None:
        self._folder = folder
        self._environment = environment
        self._monotonic = monotonic
        self._commands: dict[str, str] = {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._told_to_end: set[int] = set()
        self._restart_at: dict[str, float] = {}
        self.ended_by_themselves: Counter[str] = Counter()

    def start(self, name: str, command: str) -> None:
        """Start `evergrant COMMAND` under a name, to be kept running until `stop`."""
        self._commands[name] = command
        self._running[name] = start_bound(
            (sys.executable, "-m", "worker.cli", command),
            death_signal=signal.SIGKILL,
            env=self._environment,
            cwd=self._folder,
            log_path=self._folder / f"{name}.log",
        )

    def named(self, command: str) -> list[str]:
        """Return the names of the processes that run a command."""
        return [name for name, its in self._commands.items() if its == command]

    def process(self, name: str) -> subprocess.Popen[bytes]:
        """Return the process that has a name now."""
        return self._running[name]

    def end(self, name: str, how: signal.Signals) -> subprocess.Popen[bytes]:
        """Tell a process to end, SIGKILL or SIGTERM; `tend` starts another in its place."""
        process = self._running[name]
        self._told_to_end.add(process.pid)
        process.send_signal(how)
        return process

    def tend(self) -> None:
        """Start each process again that has ended; at once where it was told to.

        Raises:
            EvergrantError: if one ended for a wrong setting, which the drill itself has made.

        """
        for name, process in list(self._running.items()):
            if process.poll() is None:
                continue
            if process.returncode == _WRONG_SETUP:
                raise EvergrantError(f"{name} was given a wrong setting: see {self._folder / f'{name}.log'}")
            if process.pid in self._told_to_end:
                self._told_to_end.discard(process.pid)
                self.start(name, self._commands[name])
            elif name not in self._restart_at:
                self.ended_by_themselves[f"{self._commands[name]}, exit code {process.returncode}"] += 1
                self._restart_at[name] = self._monotonic() + _RESTART_AFTER
            elif self._monotonic() >= self._restart_at[name]:
                del self._restart_at[name]
                self.start(name, self._commands[name])

    def stop(self) -> Counter[str]:
        """Stop all of them in good order and return their exit codes, counted by command."""
        for process in self._running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        codes: Counter[str] = Counter()
        for name, process in self._running.items():
            # Told once: a second SIGTERM would end a worker that is about to finish what it has sent.
            with suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_SECONDS)
            stop_in_steps(process, [(signal.SIGKILL, _STOP_SECONDS)])
            codes[f"{self._commands[name]}, exit code {process.returncode}"] += 1
        self._running.clear()
        return codes
