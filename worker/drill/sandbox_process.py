"""The drill's authorization server: the sandbox in a process of its own, with its state in a file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from worker.domain.errors import EvergrantError
from worker.domain.secret import Secret
from worker.drill.clients import DrillClient
from worker.embedded import start_bound, stop_in_steps
from worker.sandbox.control import SandboxControl

#: Seconds to start; it takes about one.
_STARTS_WITHIN: Final = 60.0
_LOOK_EVERY: Final = 0.05
_OWNER_ONLY: Final = 0o600
_STOP_STEPS: Final = ((signal.SIGTERM, 20.0), (signal.SIGKILL, 10.0))


class SandboxProcess:
    """The sandbox, from `__enter__` to `__exit__` or `stop`.

    Args:
        folder: where it keeps its state and its log.
        token: gives an unguessable control token.
        seed: repeats its draws, for latencies.
        wait: waits some seconds.

    Attributes:
        control: drives it.
        url: where it listens.
        state: its state's file, to be read once it has stopped.
        token: the control API's.

    """

    control: SandboxControl
    url: str

    def __init__(self, folder: Path, *, token: Callable[[], str], seed: int, wait: Callable[[float], None]) -> None:
        self.state = folder / "sandbox.sqlite3"
        self._log = folder / "sandbox.log"
        self._token_file = folder / "control-token"
        self.token = Secret(token())
        self._seed = seed
        self._wait = wait
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        descriptor = os.open(self._token_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(self.token.reveal() + "\n")
        self._process = start_bound(
            (
                *(sys.executable, "-m", "worker.sandbox", "--port", "0", "--seed", str(self._seed)),
                *("--state", str(self.state), "--control-token-file", str(self._token_file)),
            ),
            death_signal=signal.SIGKILL,
            log_path=self._log,
        )
        self.url = self._address(self._process)
        self.control = SandboxControl(self.url, self.token)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def register(self, client: DrillClient, secret: Secret) -> None:
        """Register a client of the drill."""
        self.control.register_client(
            client_id=client.name,
            client_secret=secret,
            redirect_uris=("http://127.0.0.1:8080/oauth/callback",),
            profile=client.profile,
            behaviour=client.behaviour,
        )

    def stop(self) -> None:
        """Stop it, so that its state can be read; can be called again."""
        if self._process is not None:
            self.control.close()
            stop_in_steps(self._process, _STOP_STEPS)
            self._process = None

    def _address(self, process: subprocess.Popen[bytes]) -> str:
        for _ in range(int(_STARTS_WITHIN / _LOOK_EVERY)):
            printed = self._log.read_text(encoding="utf-8") if self._log.exists() else ""
            if printed.startswith("http://") and printed.endswith("\n"):
                return printed.split("\n", 1)[0]
            if process.poll() is not None:
                break
            self._wait(_LOOK_EVERY)
        stop_in_steps(process, _STOP_STEPS)
        raise EvergrantError(f"the sandbox did not start: see {self._log}")
