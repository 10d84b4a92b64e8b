"""The steady state: a million grants with tokens of one hour, held for ten minutes, watched from outside."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

import httpx
import psycopg

from tests.bench import population, steady_report
from tests.bench.contenders.contender import database_now, wait_until
from tests.bench.contenders.evergrant import Evergrant, wait_until_ready
from tests.bench.findings import Findings
from tests.bench.options import Options
from tests.bench.steady_watch import Sample, Watch
from tests.bench.token_endpoint import Behaviour
from tests.bench.world import World
from tests.support.deployment import Deployment
from worker.embedded.startup import free_loopback_port

_GRANTS: Final = 1_000_000
_QUICK_GRANTS: Final = 50_000
#: Tokens of one hour are rotated at 0.65 to 0.75 of their life: a million of them are 397 a second, not 278.
_ROUND: Final = 0.7 * population.ACCESS_LIFE
_BEHAVIOUR: Final = Behaviour(latency=0.05, jitter=0.5)
_WORKERS: Final = 2
_IN_FLIGHT_EACH: Final = 100
#: Seeded first, to know how long all of them will take.
_TRIAL: Final = 5_000
#: Seconds between the last grant seeded and the first one due, for the processes to start.
_START: Final = timedelta(seconds=20)
_SAMPLE_EVERY: Final = 1.0
_STARTS_WITHIN: Final = 60.0  # seconds, on a busy machine


def measure(world: World, options: Options) -> Findings:
    """Seed the grants so that they fall due evenly, start everything that production has, and watch."""
    grants = _QUICK_GRANTS if options.quick else _GRANTS
    with world.connect() as connection:
        population.clear(connection)
        world.endpoint.reset(grants, _BEHAVIOUR)
        begins = _seed(world, connection, grants)
        with Evergrant(workers=0, in_flight_each=_IN_FLIGHT_EACH).deployed(world, beats=2) as deployment:
            watch = Watch(world, connection, deployment, _start(deployment))
            while database_now(connection) < begins:
                time.sleep(_SAMPLE_EVERY)
            samples = _watched(world, watch, options.steady_minutes * 60)
            expired = watch.expired()
            ended = deployment.ended()
        if ended:
            raise RuntimeError(f"{ended[0]} ended by itself: {deployment.log(ended[0])[-2000:]}")
        world.say("  comparing every stored token with the endpoint's newest")
        lost = population.lost_tokens(connection, world.key_ring(), world.endpoint.generations())
        return steady_report.findings(samples, grants / _ROUND.total_seconds(), expired, lost, world.endpoint.counts())


def _seed(world: World, connection: psycopg.Connection, grants: int) -> datetime:
    """Seed all grants, and return when the first of them falls due."""
    keys, far = world.key_ring(), database_now(connection) + timedelta(days=1)
    began = time.monotonic()
    population.seed(connection, keys, ((number, far) for number in range(_TRIAL)))
    takes = 1.3 * (time.monotonic() - began) / _TRIAL * grants
    population.clear(connection)
    world.say(f"  seeding {grants:,} grants, about {takes:.0f} s")
    begins = database_now(connection) + timedelta(seconds=takes) + _START

    def due() -> Iterator[tuple[int, datetime]]:
        for number in range(grants):
            yield number, begins + _ROUND * (number / grants)

    numbered = due()
    while part := list(islice(numbered, 100_000)):  # a commit for each: one of all would hold back vacuum
        population.seed(connection, keys, part)
    connection.execute("VACUUM ANALYZE grants")
    return begins


def _start(deployment: Deployment) -> list[str]:
    """Start workers and web, each with a port for its metrics, and return where they are served, the web's last."""
    addresses = []
    for number in range(1, _WORKERS + 1):
        port = free_loopback_port()
        deployment.environment["EVERGRANT_METRICS_PORT"] = str(port)
        deployment.start(f"worker-{number}", "worker")
        addresses.append(f"http://127.0.0.1:{port}/metrics")
    del deployment.environment["EVERGRANT_METRICS_PORT"]
    port = free_loopback_port()
    deployment.start("web", "web", "--port", str(port))
    wait_until_ready(deployment)
    web = f"http://127.0.0.1:{port}/metrics"
    if not wait_until(lambda: _answers(web), _STARTS_WITHIN, every=0.25):
        raise RuntimeError(f"the web process did not start: {deployment.log('web')[-2000:]}")
    return [*addresses, web]


def _answers(address: str) -> bool:
    try:
        return httpx.get(address, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _watched(world: World, watch: Watch, seconds: float) -> list[Sample]:
    began = time.monotonic()
    samples = [watch.sample(thorough=True)]
    while (passed := time.monotonic() - began) < seconds:
        time.sleep(_SAMPLE_EVERY)
        # The thorough look reads statistics and sizes, and scrapes what Prometheus scrapes: every 15 s, as it does.
        samples.append(watch.sample(thorough=len(samples) % 15 == 0))
        if len(samples) % 30 == 0:
            latest = samples[-1]
            world.say(
                f"  {passed:4.0f} of {seconds:.0f} s  {latest.rotated:,} rotated, oldest overdue {latest.overdue:.1f} s"
            )
    samples.append(watch.sample(thorough=True))
    return samples
