"""The token endpoint in a process of its own, and its control path."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from array import array
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import httpx

from tests.bench.environment import with_packages
from tests.bench.token_endpoint import Behaviour
from worker.embedded import start_bound, stop_in_steps

_STARTS_WITHIN: Final = 30.0  # seconds; it takes less than one
_ANSWERS_WITHIN: Final = 30.0  # seconds, for a control request on a busy machine


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointCounts:
    """What the endpoint has counted since its last reset; `cpu_seconds` since its start."""

    rotations: int
    double_spends: int
    unknown: int
    connections: int
    unread: int
    undelivered: int
    cpu_seconds: float


class TokenEndpointProcess:
    """The endpoint, from `__enter__` to `__exit__`; called from the main thread.

    Args:
        folder: where its output goes.
        grants: how many grants there are.
        expires_in: what it says of an access token's life, seconds.

    Attributes:
        url: where it listens.
        process: its process.

    """

    process: subprocess.Popen[bytes]
    url: str

    def __init__(self, folder: Path, *, grants: int = 1, expires_in: int = 3600) -> None:
        self._log = folder / "token_endpoint.log"
        self._arguments = ("--grants", str(grants), "--expires-in", str(expires_in))

    def __enter__(self) -> Self:
        self._log.unlink(missing_ok=True)
        self.process = start_bound(
            (sys.executable, "-m", "tests.bench.token_endpoint", *self._arguments),
            death_signal=signal.SIGKILL,
            env=with_packages(),
            log_path=self._log,
        )
        self.url = self._address()
        self._http = httpx.Client(base_url=self.url, timeout=_ANSWERS_WITHIN, trust_env=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()
        stop_in_steps(self.process, [(signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)])

    def reset(self, grants: int, behaviour: Behaviour) -> None:
        """Begin with new grants, count from nothing, and answer like this."""
        self._http.post("/control/reset", json={"grants": grants}).raise_for_status()
        self.behave(behaviour)

    def behave(self, behaviour: Behaviour) -> None:
        """Answer like this from now on."""
        self._http.post("/control/behaviour", json=asdict(behaviour)).raise_for_status()

    def counts(self) -> EndpointCounts:
        """Return what was counted."""
        return EndpointCounts(**self._http.get("/control").raise_for_status().json())

    def generations(self) -> array[int]:
        """Return each grant's newest generation, by its number."""
        newest = array("I")
        newest.frombytes(self._http.get("/control/generations").raise_for_status().content)
        return newest

    def _address(self) -> str:
        deadline = time.monotonic() + _STARTS_WITHIN
        while time.monotonic() < deadline and self.process.poll() is None:
            for line in self._log.read_text().splitlines():
                if line.startswith("http://"):
                    return line.strip()
            time.sleep(0.02)
        raise RuntimeError(f"the token endpoint did not start: {self._log.read_text()}")
