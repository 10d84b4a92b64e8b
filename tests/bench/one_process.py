"""One process's drain without Celery: what a grant costs, and how long an answer waits for its commit.

A program of its own, so that its CPU time is that of the drain alone. It prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import psycopg
from prometheus_client import CollectorRegistry

from tests.bench import population
from tests.bench.contenders.contender import database_now
from tests.bench.contenders.evergrant import WARM_UP
from tests.bench.world import CLIENT, CLIENT_SECRET
from worker.bootstrap import Container, create_container
from worker.collector import spare_what_is_loaded
from worker.domain.grant import ClaimedGrant
from worker.domain.outcome import Rotated, Tokens
from worker.domain.secret import Secret
from worker.logging import configure_logging
from worker.observers import Observers
from worker.settings import Settings
from worker.storage.sealing import KeyRing, parse_keys

_DRAIN_SECONDS: Final = 300.0
_TOLD: Final = 5_000  # rotations that are told of once more: a tenth of a second


class Observed(StrEnum):
    """How much of what happens is counted and told."""

    EVERYTHING = "metrics and logs"
    METRICS = "metrics"
    NOTHING = "nothing"


class _Windows:
    """Collects the windows between an answer and its commit that the rotation reports, and the last grant of all."""

    def __init__(self, observers: Observers) -> None:
        self.seconds: list[float] = []
        self.grant: ClaimedGrant | None = None
        self._tell = observers.settled
        observers.settled = self._settled  # type: ignore[method-assign]

    def _settled(self, grant: ClaimedGrant, *, seconds: float) -> None:
        self.seconds.append(seconds)
        self.grant = grant
        self._tell(grant, seconds=seconds)


def _telling_ms(observers: Observers, grant: ClaimedGrant) -> float:
    """Return the milliseconds of processor time that counting and logging one rotation takes, by doing it again."""
    outcome = Rotated(tokens=Tokens(access_token=grant.refresh_token, refresh_token=None, access_lifetime=None))
    began = time.process_time()
    for _ in range(_TOLD):
        observers.refreshed(grant, outcome, seconds=0.05, late=timedelta(seconds=1))
        observers.settled(grant, seconds=0.005)
        observers.clock_skew("bench", 0.0)
    return 1000 * (time.process_time() - began) / _TOLD


def _silence(observers: Observers) -> None:
    """Let nothing be counted or logged."""
    for name in [name for name in dir(Observers) if not name.startswith("_")]:
        setattr(observers, name, lambda *_args, **_kwargs: None)


async def _measure(container: Container, connection: psycopg.Connection, keys: KeyRing, grants: int) -> dict[str, Any]:
    client = container.configuration.registry.client(CLIENT)
    windows = _Windows(container.observers)
    try:
        _seed(connection, keys, range(WARM_UP))
        await container.drains.drain(client, _DRAIN_SECONDS)
        spare_what_is_loaded()  # as a worker does when it has started
        windows.seconds.clear()
        _seed(connection, keys, range(WARM_UP, WARM_UP + grants))
        began, cpu = time.monotonic(), time.process_time()
        await container.drains.drain(client, _DRAIN_SECONDS)
        cpu_ms, seconds = 1000 * (time.process_time() - cpu) / grants, time.monotonic() - began
        taken = list(windows.seconds)
        telling_ms = _telling_ms(container.observers, windows.grant) if windows.grant is not None else 0.0
        return {"cpu_ms": cpu_ms, "seconds": seconds, "windows": taken, "telling_ms": telling_ms}
    finally:
        await container.close()


def _seed(connection: psycopg.Connection, keys: KeyRing, numbers: range) -> None:
    due = database_now(connection)
    population.seed(connection, keys, ((number, due) for number in numbers))
    connection.execute("VACUUM ANALYZE grants")
    os.sync()  # what filling the table wrote is not to be waited for by the first commits


def main() -> int:
    """Drain the given number of grants and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--grants", type=int, required=True)
    parser.add_argument("--observed", type=Observed, required=True)
    given = parser.parse_args()
    # Secrets are no arguments: a list of processes would show them.
    database, keys = Secret(os.environ["EVERGRANT_DATABASE_URL"]), Secret(os.environ["EVERGRANT_KEYS"])
    configure_logging("json", "info" if given.observed is Observed.EVERYTHING else "error")
    settings = Settings(database_url=database, keys=keys, config=given.config, home_dir=given.home)

    async def run() -> dict[str, Any]:
        container = create_container(
            settings, name="bench", environment={"BENCH_SECRET": CLIENT_SECRET}, registry=CollectorRegistry()
        )
        if given.observed is Observed.NOTHING:
            _silence(container.observers)
        return await _measure(container, connection, KeyRing(parse_keys(keys), os.urandom), given.grants)

    with psycopg.connect(database.reveal(), autocommit=True) as connection:
        print(json.dumps(asyncio.run(run())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
