"""A deployment as in production: worker and beat processes of their own on one database and one broker."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from worker.domain.secret import Secret
from worker.embedded import start_bound, stop_in_steps


@dataclass(slots=True, kw_only=True)
class Deployment:
    """The processes of one deployment.

    Attributes:
        folder: where logs and configuration lie.
        environment: what every process gets.
        processes: those that run, by name.

    """

    folder: Path
    environment: dict[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, *command: str) -> None:
        """Start a process `evergrant COMMAND…` under a name."""
        self.processes[name] = start_bound(
            (sys.executable, "-m", "worker.cli", *command),
            death_signal=signal.SIGKILL,
            env=self.environment,
            cwd=self.folder,
            log_path=self.folder / f"{name}.log",
        )

    def stop(self) -> None:
        """Stop every process in good order."""
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30.0)
            stop_in_steps(process, [(signal.SIGKILL, 10.0)])

    def ended(self) -> list[str]:
        """Return the names of the processes that have ended by themselves."""
        return [name for name, process in self.processes.items() if process.poll() is not None]

    def log(self, name: str) -> str:
        """Return what a process has logged."""
        return (self.folder / f"{name}.log").read_text(errors="replace")


@contextmanager
def deployed(
    folder: Path,
    *,
    database_url: str,
    broker_url: str,
    keys: Secret,
    configuration: str,
    workers: int = 1,
    beats: int = 1,
    **environment: str,
) -> Iterator[Deployment]:
    """Run a deployment for as long as a `with` block.

    Args:
        folder: a folder of the test's own.
        database_url: a migrated database.
        broker_url: a broker that nobody else uses.
        keys: the key ring.
        configuration: the configuration file's text.
        workers: how many worker processes.
        beats: how many beats.
        environment: further variables, such as client secrets.

    """
    (folder / "evergrant.toml").write_text(configuration, encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("EVERGRANT_", "PROMETHEUS_"))}
    deployment = Deployment(
        folder=folder,
        environment={
            **kept,
            "EVERGRANT_DATABASE_URL": database_url,
            "EVERGRANT_BROKER_URL": broker_url,
            "EVERGRANT_KEYS": keys.reveal(),
            "EVERGRANT_CONFIG": str(folder / "evergrant.toml"),
            "EVERGRANT_LOG_LEVEL": "warning",
            **environment,
        },
    )
    try:
        for number in range(1, workers + 1):
            deployment.start(f"worker-{number}", "worker")
        for number in range(1, beats + 1):
            deployment.start(f"beat-{number}", "beat")
        yield deployment
    finally:
        deployment.stop()
