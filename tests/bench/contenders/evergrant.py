"""Evergrant as it runs in production: worker processes and a beat, measured from outside by what is stored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

from tests.bench import names, population
from tests.bench.contenders.contender import Cell, Measured, Meter, database_now, stored_since, wait_until
from tests.bench.token_endpoint import Behaviour
from tests.bench.world import CLIENT, CLIENT_SECRET, World
from tests.support.deployment import Deployment, deployed
from worker.usecases.window import room

#: Grants refreshed before a run, so that imports, connections and plans are not what is measured.
WARM_UP: Final = 300
_READY_WITHIN: Final = 60.0  # seconds, on a busy machine
_OVERDUE: Final = timedelta(seconds=5)

_CONFIGURATION: Final = """
[providers.bench]
authorization_endpoint = "{url}/authorize"
token_endpoint = "{url}/token"
rotation = "always"
old_token = "invalidated"

[clients.bench]
provider = "bench"
client_id = "bench"
client_secret = "env:BENCH_SECRET"
max_in_flight = 10_000

[worker]
max_in_flight = {places}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evergrant:
    """Worker processes with their share of the requests in flight.

    Attributes:
        name: in the report.
        workers: how many processes; with 0, the caller starts one of its own.
        in_flight_each: requests under way in each.

    """

    name: str = names.EVERGRANT
    workers: int = 2
    in_flight_each: int = 100

    @contextmanager
    def deployed(self, world: World, *, beats: int = 1) -> Iterator[Deployment]:
        """Run workers and a beat on Evergrant's database for as long as a `with` block; they are ready at its start."""
        folder = Path(mkdtemp(prefix="evergrant-", dir=world.folder))
        with deployed(
            folder,
            database_url=world.database_url,
            broker_url=f"{world.broker_url.rsplit('/', 1)[0]}/1",
            keys=world.keys,
            configuration=configuration(world.endpoint.url, self.in_flight_each),
            workers=self.workers,
            beats=beats,
            EVERGRANT_LOG_LEVEL="info",
            BENCH_SECRET=CLIENT_SECRET,
        ) as deployment:
            wait_until_ready(deployment)
            yield deployment

    def run(self, world: World, cell: Cell) -> Measured:
        """Refresh a column's grants once, and measure."""
        with world.connect() as connection:
            prepare(world, cell, resumed=True, grants=WARM_UP)
            with self.deployed(world) as deployment:
                all_stored(world, WARM_UP, _READY_WITHIN)
                prepare(world, cell, resumed=False, grants=cell.grants)
                meter = Meter(world, [process.pid for process in deployment.processes.values()])
                began = database_now(connection)
                population.resume(connection)
                all_stored(world, cell.grants, cell.at_most)
                meter.stop()
                ended = deployment.ended()
            if ended:
                raise RuntimeError(f"{ended[0]} ended by itself: {deployment.log(ended[0])[-2000:]}")
            found = population.lost_tokens(connection, world.key_ring(), world.endpoint.generations())
            stored = stored_since(connection, "grants", began)
            return meter.measured(self.name, cell, stored, lost=found.lost, in_doubt=found.in_doubt)


def configuration(url: str, in_flight: int) -> str:
    """Return Evergrant's configuration for one client at the bench's token endpoint.

    Args:
        url: the endpoint's.
        in_flight: requests under way in each process. It has some more places, for a client alone does not get all.

    """
    places = next(limit for limit in count(in_flight) if room(limit=limit, free=limit, held=0) >= in_flight)
    return _CONFIGURATION.format(url=url, places=places)


def wait_until_ready(deployment: Deployment) -> None:
    """Return when every worker of a deployment takes tickets.

    Raises:
        RuntimeError: with the end of its log, where one does not.

    """
    names = [name for name in deployment.processes if name.startswith("worker")]
    if not wait_until(lambda: all("worker_ready" in deployment.log(name) for name in names), _READY_WITHIN):
        late = next(name for name in names if "worker_ready" not in deployment.log(name))
        raise RuntimeError(f"{late} did not start: {deployment.log(late)[-2000:]}")


def prepare(world: World, cell: Cell, *, resumed: bool, grants: int) -> None:
    """Put overdue grants into an empty database, with the client held back or not."""
    behaviour = Behaviour() if resumed else cell.behaviour
    with world.connect() as connection:
        population.clear(connection)
        population.pause(connection)
        world.endpoint.reset(grants, behaviour)
        due = database_now(connection) - _OVERDUE
        population.seed(connection, world.key_ring(), ((number, due) for number in range(grants)))
        connection.execute("VACUUM ANALYZE grants")
        if resumed:
            population.resume(connection)


def all_stored(world: World, grants: int, at_most: float) -> bool:
    """Wait until every grant of a fresh population is rotated and stored; tell whether that came to be."""
    with world.connect() as connection:
        pending = f"SELECT count(*) FROM grants WHERE client = '{CLIENT}' AND generation = 0".encode()
        return wait_until(
            # The endpoint is asked first: it costs nothing of what is measured.
            lambda: world.endpoint.counts().rotations >= grants and population.count(connection, pending) == 0,
            at_most,
        )
