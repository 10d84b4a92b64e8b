"""A worker that is killed with requests in flight: what was spent is in doubt, soon, and heals within a reuse grace."""

from __future__ import annotations

import signal
from pathlib import Path

import psycopg
import pytest

from tests.conftest import ContainerMaker
from tests.support.deployment import deployed
from tests.support.sandbox_clients import SECRET, adopt, register
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import wait_until
from tests.support.workers_present import workers_present
from worker.domain.secret import Secret
from worker.sandbox.behaviour import Behaviour, Latency
from worker.sandbox.families import FamilyStatus
from worker.sandbox.profiles import RFC6749
from worker.sandbox.server import RunningSandbox

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

GRANTS = 20
NOTICED_WITHIN = 10.0  # seconds from the kill until every doubt is known, so that a grace of 30 s can be met
HEALED_WITHIN = 30.0


def _count(database_url: str, where: str) -> int:
    with psycopg.connect(database_url, autocommit=True) as connection:
        row = connection.execute(f"SELECT count(*) FROM grants WHERE {where}").fetchone()
    assert row is not None
    return int(row[0])


async def test_what_was_in_flight_heals_within_the_grace(
    *,
    sandbox: RunningSandbox,
    make_container: ContainerMaker,
    database_url: str,
    broker_url: str,
    keys: Secret,
    tmp_path: Path,
) -> None:
    """After kill -9 with every request in flight, another worker notices by the lost session and saves every grant."""
    client = register(
        sandbox,
        name="grace-test",
        profile=RFC6749,
        # Rotates at once and answers late: at the kill every token is spent and no answer was read.
        behaviour=Behaviour(reuse_grace=30, latency=Latency(fixed=15.0)),
        provider='old_token = "grace"\nreuse_grace = "30s"',
    )
    async with make_container(client.toml, **client.environment) as container:
        await adopt(container, sandbox, client, GRANTS)
    with deployed(
        tmp_path,
        database_url=database_url,
        broker_url=broker_url,
        keys=keys,
        configuration=client.toml,
        CLIENT_SECRET=SECRET,
    ) as deployment:
        wait_until(lambda: sandbox.control.report().rotations == GRANTS, 30.0, "every request is in flight")
        assert _count(database_url, "leased_until IS NOT NULL") == GRANTS
        deployment.start("worker-2", "worker")
        wait_until(lambda: workers_present(database_url) == 2, 12.0, "the second worker is up")
        sandbox.control.change_behaviour(client.name, Behaviour(reuse_grace=30))
        deployment.processes["worker-1"].send_signal(signal.SIGKILL)

        doubted = "presentations > 0 OR generation > 0"
        wait_until(lambda: _count(database_url, doubted) == GRANTS, NOTICED_WITHIN, "every doubt is known")
        healed = "state = 'active' AND generation = 1"
        wait_until(lambda: _count(database_url, healed) == GRANTS, HEALED_WITHIN, "every grant is active again")
    report = sandbox.control.report()
    assert (report.rotations, report.grace_replays, report.families[FamilyStatus.ALIVE]) == (GRANTS, GRANTS, GRANTS)


async def test_a_stopped_worker_finishes_what_it_has_sent(
    *,
    sandbox: RunningSandbox,
    make_container: ContainerMaker,
    database_url: str,
    broker_url: str,
    keys: Secret,
    tmp_path: Path,
) -> None:
    """SIGTERM with requests in flight: every answer is read and stored, nothing is left in doubt or under lease."""
    client = register(sandbox, behaviour=Behaviour(latency=Latency(fixed=1.5)))
    async with make_container(client.toml, **client.environment) as container:
        await adopt(container, sandbox, client, GRANTS)
    with deployed(
        tmp_path,
        database_url=database_url,
        broker_url=broker_url,
        keys=keys,
        configuration=client.toml,
        CLIENT_SECRET=SECRET,
    ) as deployment:
        wait_until(lambda: sandbox.control.report().rotations == GRANTS, 30.0, "every request is in flight")
        worker = deployment.processes["worker-1"]
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30.0) == 0
    assert _count(database_url, "state = 'active' AND generation = 1 AND leased_until IS NULL") == GRANTS


async def test_a_worker_stops_in_time_while_the_database_is_away(
    *,
    sandbox: RunningSandbox,
    make_container: ContainerMaker,
    database_url: str,
    broker_url: str,
    keys: Secret,
    tmp_path: Path,
) -> None:
    """SIGTERM when nothing is stored: the tokens wait in the escrow, the worker ends, and the next one has them."""
    client = register(sandbox, behaviour=Behaviour(latency=Latency(fixed=1.5)))
    async with make_container(client.toml, **client.environment) as container:
        await adopt(container, sandbox, client, GRANTS)
    configuration = f'{client.toml}\n[worker]\nstop_time = "3s"'
    with (
        TcpProxy(database_url) as proxy,
        deployed(
            tmp_path,
            database_url=proxy.url,
            broker_url=broker_url,
            keys=keys,
            configuration=configuration,
            CLIENT_SECRET=SECRET,
        ) as deployment,
    ):
        wait_until(lambda: sandbox.control.report().rotations == GRANTS, 30.0, "every request is in flight")
        proxy.refuse()
        escrow = tmp_path / ".evergrant" / "escrow"
        wait_until(lambda: len(list(escrow.glob("*.settlement"))) == GRANTS, 30.0, "every token is in the escrow")
        worker = deployment.processes["worker-1"]
        worker.send_signal(signal.SIGTERM)
        worker.wait(15.0)
        assert _count(database_url, "generation = 1") == 0
        proxy.accept()
        deployment.start("worker-2", "worker")
        kept = "state = 'active' AND generation = 1 AND leased_until IS NULL"
        wait_until(lambda: _count(database_url, kept) == GRANTS, 30.0, "the next worker has stored what waited")
    assert sandbox.control.report().presented_more_than_once == 0
