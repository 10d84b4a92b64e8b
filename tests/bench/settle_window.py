"""The window between reading an answer and its commit, under load: `make bench` prints its median and 99th percentile.

Real PostgreSQL that waits for the disk, real requests, 100 in flight, against the sandbox in a process of its own.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from prometheus_client import CollectorRegistry

from worker.bootstrap import create_container, create_schema, monotonic
from worker.demo.configuration import ASKARA_CLIENT
from worker.domain.grant import ClaimedGrant
from worker.domain.secret import Secret
from worker.embedded import EmbeddedPostgres, start_bound
from worker.logging import configure_logging
from worker.sandbox.behaviour import Behaviour, Latency
from worker.sandbox.control import SandboxControl
from worker.sandbox.profiles import ASKARA
from worker.settings import Settings
from worker.storage.sealing import generate_key

GRANTS = 3_000
LATENCY = 0.05  # seconds that the provider takes
PROMISE = 0.020  # seconds at the 99th percentile
_DRAIN_SECONDS = 300.0

CONFIGURATION = """
[providers.askara]
authorization_endpoint = "{url}/askara/authorize"
token_endpoint = "{url}/askara/oauth2/token"

[clients.askara-demo]
provider = "askara"
client_id = "askara-demo"
client_secret = "env:CLIENT_SECRET"
"""


class _Windows:
    """Collects the windows that the rotation reports."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def settled(self, grant: ClaimedGrant, *, seconds: float) -> None:  # noqa: ARG002 -- an observer's signature
        """Keep one window."""
        self.seconds.append(seconds)


def main() -> int:
    """Measure, print, and return 1 when the promise is not kept."""
    configure_logging("json", "warning")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        database = EmbeddedPostgres(folder / "postgres", token=lambda: secrets.token_urlsafe(24), monotonic=monotonic)
        token_file = folder / "control-token"
        sandbox = start_bound(
            (sys.executable, "-m", "worker.sandbox", "--port", "0", "--control-token-file", str(token_file)),
            death_signal=signal.SIGKILL,
            log_path=folder / "sandbox.log",
        )
        try:
            url = _address(folder / "sandbox.log", sandbox)
            control_token = Secret(token_file.read_text(encoding="utf-8").strip())
            with database, SandboxControl(url, control_token) as control:
                windows, elapsed = asyncio.run(_measure(folder, database.start(), url, control))
        finally:
            sandbox.send_signal(signal.SIGTERM)
            sandbox.wait()
    return _report(windows, elapsed)


async def _measure(folder: Path, database_url: Secret, url: str, control: SandboxControl) -> tuple[list[float], float]:
    config = folder / "evergrant.toml"
    config.write_text(CONFIGURATION.format(url=url), encoding="utf-8")
    secret = Secret("the bench's client secret")
    settings = Settings(
        database_url=database_url, keys=generate_key("bench", os.urandom), config=config, home_dir=folder / "home"
    )
    create_schema(settings).upgrade()
    environment = {"CLIENT_SECRET": secret.reveal()}
    container = create_container(settings, name="bench", environment=environment, registry=CollectorRegistry())
    windows = _Windows()
    container.observers.settled = windows.settled  # type: ignore[method-assign]
    try:
        control.register_client(
            client_id=ASKARA_CLIENT,
            client_secret=secret,
            redirect_uris=("http://127.0.0.1:8080/oauth/callback",),
            profile=ASKARA,
            behaviour=Behaviour(latency=Latency(fixed=LATENCY)),
        )
        for number, grant in enumerate(control.seed_grants(ASKARA_CLIENT, GRANTS), start=1):
            await container.adoption.adopt(ASKARA_CLIENT, grant.account, refresh_token=grant.refresh_token)
            if number % 1000 == 0:
                print(f"{number} of {GRANTS} grants adopted", flush=True)
        began = monotonic()
        await container.drains.drain(container.configuration.registry.client(ASKARA_CLIENT), _DRAIN_SECONDS)
        return windows.seconds, monotonic() - began
    finally:
        await container.close()


def _report(windows: list[float], elapsed: float) -> int:
    cuts = statistics.quantiles(windows, n=100)
    median, p99 = cuts[49], cuts[98]
    kept = p99 <= PROMISE
    rate = len(windows) / elapsed
    print(f"{len(windows)} rotations in {elapsed:.1f} s ({rate:.0f}/s), provider latency {_ms(LATENCY)}")
    print(f"answer read to commit: median {_ms(median)}, p99 {_ms(p99)}, worst {_ms(max(windows))}")
    print(f"promise: p99 at most {_ms(PROMISE)}: {'pass' if kept else 'FAIL'}")
    return 0 if kept else 1


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def _address(log: Path, sandbox: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + 30.0
    while time.monotonic() < deadline and sandbox.poll() is None:
        for line in log.read_text().splitlines():
            if line.startswith("http://"):
                return line.strip()
        time.sleep(0.1)
    raise RuntimeError(f"the sandbox did not start: {log.read_text()}")


if __name__ == "__main__":
    sys.exit(main())
