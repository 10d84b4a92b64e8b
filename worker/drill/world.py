"""Everything that a drill runs, put together: servers, sandbox, grants, workers and beats."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from prometheus_client import CollectorRegistry

from worker.bootstrap import Container, create_container, create_schema
from worker.domain.secret import Secret
from worker.drill.clients import CLIENTS, SECRET_VARIABLE, configuration
from worker.drill.population import Population
from worker.drill.processes import Processes
from worker.drill.sandbox_process import SandboxProcess
from worker.drill.services import DrillServices
from worker.drill.watch import Watch
from worker.settings import PREFIX, Settings
from worker.storage.sealing import generate_key

#: Beats run twice: two ticks at once must change nothing.
BEATS: Final = 2
_NOT_HANDED_DOWN: Final = (PREFIX, "PROMETHEUS_")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldSize:
    """How much runs.

    Attributes:
        workers: worker processes.
        grants: over all clients.

    """

    workers: int
    grants: int


class World:
    """All parts of a drill, from `__enter__` to `__exit__`. It belongs to the main thread.

    Args:
        home: an empty folder of the drill's own.
        size: how much runs.
        seed: of the sandbox's draws.
        token: gives a new unguessable string at each call.
        monotonic: a clock in seconds.
        wait: waits some seconds.

    """

    services: DrillServices
    sandbox: SandboxProcess
    processes: Processes
    population: Population
    watch: Watch
    settings: Settings

    def __init__(
        self,
        home: Path,
        *,
        size: WorldSize,
        seed: int,
        token: Callable[[], str],
        monotonic: Callable[[], float],
        wait: Callable[[float], None],
    ) -> None:
        self.home = home
        self.metrics = home / "metrics"
        self._size = size
        self._seed = seed
        self._token = token
        self.monotonic = monotonic
        self.wait = wait
        self._secret = Secret(token())
        self._stopping = ExitStack()

    def __enter__(self) -> Self:
        # As root, PostgreSQL runs as another user, who must reach its own folder through this one.
        self.home.chmod(0o711 if os.geteuid() == 0 else 0o700)
        self.metrics.mkdir()
        with ExitStack() as starting:
            self._start(starting)
            self._stopping = starting.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.close()

    def secrets(self) -> dict[str, Secret]:
        """Return the secrets that a drill begins with, by what they are."""
        return {
            "the client secret": self._secret,
            "the key ring's key": Secret(self.settings.require_keys().reveal().partition(":")[2]),
            "the database's password": self.services.own_database_url,
            "the broker's password": self.services.own_broker_url,
            "the sandbox's control token": self.sandbox.token,
        }

    def create_container(self) -> Container:
        """Return a container on the drill's own connections, which no fault meets."""
        return create_container(
            self.settings,
            name="evergrant drill",
            environment={SECRET_VARIABLE: self._secret.reveal()},
            registry=CollectorRegistry(),
        )

    def _start(self, starting: ExitStack) -> None:
        self.services = starting.enter_context(
            DrillServices(self.home, token=self._token, monotonic=self.monotonic),
        )
        self.sandbox = starting.enter_context(
            SandboxProcess(self.home, token=self._token, seed=self._seed, wait=self.wait)
        )
        for client in CLIENTS:
            self.sandbox.register(client, self._secret)
        config = self.home / "evergrant.toml"
        config.write_text(configuration(self.sandbox.url), encoding="utf-8")
        keys = generate_key("drill", os.urandom)
        self.settings = Settings(
            database_url=self.services.own_database_url,
            broker_url=self.services.own_broker_url,
            keys=keys,
            config=config,
            home_dir=self.home,
        )
        create_schema(self.settings).upgrade()
        self.watch = Watch(self.services.own_database_url)
        starting.callback(self.watch.close)
        share, more = divmod(self._size.grants, len(CLIENTS))
        wanted = {client.name: share + (place < more) for place, client in enumerate(CLIENTS)}
        self.population = Population(self.sandbox.control, self.create_container, wanted)
        starting.callback(self.population.close)
        self.processes = Processes(self.home, self._environment(keys, config), self.monotonic)
        starting.callback(self.processes.stop)
        for number in range(1, self._size.workers + 1):
            self.processes.start(f"worker-{number}", "worker")
        for number in range(1, BEATS + 1):
            self.processes.start(f"beat-{number}", "beat")
        self.population.fill({})

    def _environment(self, keys: Secret, config: Path) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_HANDED_DOWN)}
        return {
            **kept,
            f"{PREFIX}DATABASE_URL": self.services.database_url.reveal(),
            f"{PREFIX}BROKER_URL": self.services.broker_url.reveal(),
            f"{PREFIX}KEYS": keys.reveal(),
            f"{PREFIX}CONFIG": str(config),
            f"{PREFIX}HOME_DIR": str(self.home),
            f"{PREFIX}LOG_LEVEL": "debug",  # what is said least often may tell most
            SECRET_VARIABLE: self._secret.reveal(),
            "PROMETHEUS_MULTIPROC_DIR": str(self.metrics),
        }
