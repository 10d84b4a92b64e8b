"""Outages with real worker processes and many rotations in flight: nothing is lost, and the work goes on by itself.

EVERGRANT_TEST_OUTAGE=60 makes them last as long as the project promises.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, LiteralString

import psycopg
import pytest

from tests.conftest import ContainerMaker
from tests.support.deployment import Deployment, deployed
from tests.support.sandbox_clients import SECRET, SandboxClient, adopt, register
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import wait_until
from worker.domain.secret import Secret
from worker.sandbox.behaviour import Behaviour, Latency
from worker.sandbox.families import FamilyStatus
from worker.sandbox.server import RunningSandbox

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

OUTAGE: Final = float(os.environ.get("EVERGRANT_TEST_OUTAGE", "8"))
#: EVERGRANT_TEST_GRANTS=500 makes it the size that the project promises.
GRANTS: Final = int(os.environ.get("EVERGRANT_TEST_GRANTS", "150"))
#: Every grant's request is in flight, in one process if need be.
#: One client alone may have two thirds of a worker's places.
ALL_AT_ONCE: Final = f"max_in_flight = {GRANTS}\n[worker]\nmax_in_flight = {2 * GRANTS}"
#: Seconds after an outage within which the work must go on.
GOES_ON_WITHIN: Final = 10.0
WITHIN: Final = 120.0  # only turns a hang into an error; a second worker starts, and stores what came by the broker


def _ask(database_url: str, query: LiteralString) -> Sequence[Any]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        return connection.execute(query).fetchall()


def _count(database_url: str, where: LiteralString) -> int:
    [[found]] = _ask(database_url, f"SELECT count(*) FROM grants WHERE {where}")
    return int(found)


def _escrowed(folder: Path) -> int:
    return len(list((folder / ".evergrant" / "escrow").glob("*.settlement")))


def _make_due(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE grants SET rotate_at = now() WHERE state = 'active'")


async def _adopted(
    make_container: ContainerMaker, sandbox: RunningSandbox, client: SandboxClient, *, due: bool = True
) -> None:
    async with make_container(client.toml, **client.environment) as container:
        await adopt(container, sandbox, client, GRANTS, due=due)


def _assert_nothing_lost(sandbox: RunningSandbox, database_url: str, grants: int) -> None:
    """Every grant is active and free, the provider has rotated as often as we have stored, and nothing came twice."""
    assert _count(database_url, "state = 'active' AND leased_until IS NULL AND strikes = 0") == grants
    [[stored]] = _ask(database_url, "SELECT sum(generation) FROM grants")
    report = sandbox.control.report()
    assert (report.double_spends, report.presented_more_than_once) == (0, 0)
    assert report.rotations == stored, "each rotation at the provider is a generation here"
    assert report.families[FamilyStatus.ALIVE] == grants


async def test_the_database_away_with_requests_in_flight(
    *,
    sandbox: RunningSandbox,
    make_container: ContainerMaker,
    database_url: str,
    broker_url: str,
    keys: Secret,
    tmp_path: Path,
) -> None:
    """Answers that come while the database is away fill the escrow; when it is back, the escrow empties into it."""
    client = register(sandbox, behaviour=Behaviour(latency=Latency(fixed=3.0)), client=ALL_AT_ONCE)
    await _adopted(make_container, sandbox, client)
    with (
        TcpProxy(database_url) as proxy,
        deployed(
            tmp_path,
            database_url=proxy.url,
            broker_url=broker_url,
            keys=keys,
            configuration=client.toml,
            workers=2,
            CLIENT_SECRET=SECRET,
        ) as deployment,
    ):
        wait_until(lambda: sandbox.control.report().rotations >= GRANTS // 2, WITHIN, "requests are in flight")
        proxy.refuse()
        back_at = time.monotonic() + OUTAGE
        stored = _count(database_url, "generation = 1")
        assert stored < GRANTS, "the outage came too late to meet any answer"

        def all_kept() -> bool:
            return _escrowed(tmp_path) == sandbox.control.report().rotations - stored

        wait_until(all_kept, WITHIN, "every token that was read is in the escrow")
        assert _escrowed(tmp_path) > 0
        wait_until(lambda: time.monotonic() > back_at, OUTAGE + 1, "the outage is over")
        proxy.accept()
        wait_until(lambda: _escrowed(tmp_path) == 0, WITHIN, "the escrow is empty")
        healed = "state = 'active' AND generation = 1 AND leased_until IS NULL"
        wait_until(lambda: _count(database_url, healed) == GRANTS, WITHIN, "every grant is active again")
        assert deployment.ended() == []
    _assert_nothing_lost(sandbox, database_url, GRANTS)


async def test_the_broker_away_with_requests_in_flight(
    *,
    sandbox: RunningSandbox,
    make_container: ContainerMaker,
    database_url: str,
    broker_url: str,
    keys: Secret,
    tmp_path: Path,
) -> None:
    """What was sent is settled without the broker, and within 10 s of its return due grants are rotated again."""
    client = register(sandbox, behaviour=Behaviour(latency=Latency(fixed=2.0)), client=ALL_AT_ONCE)
    await _adopted(make_container, sandbox, client)
    with (
        TcpProxy(broker_url) as proxy,
        deployed(
            tmp_path,
            database_url=database_url,
            broker_url=proxy.url,
            keys=keys,
            configuration=client.toml,
            workers=2,
            CLIENT_SECRET=SECRET,
        ) as deployment,
    ):
        wait_until(lambda: sandbox.control.report().rotations >= GRANTS // 2, WITHIN, "requests are in flight")
        proxy.refuse()
        back_at = time.monotonic() + OUTAGE
        wait_until(lambda: _count(database_url, "leased_until IS NOT NULL") == 0, WITHIN, "what was sent is settled")
        wait_until(lambda: time.monotonic() > back_at, OUTAGE + 1, "the outage is over")
        _make_due(database_url)
        before = sandbox.control.report().rotations
        proxy.accept()
        wait_until(lambda: sandbox.control.report().rotations > before, GOES_ON_WITHIN, "the work goes on")
        done = "generation >= 1 AND rotate_at > now() AND leased_until IS NULL"
        wait_until(lambda: _count(database_url, done) == GRANTS, WITHIN, "every grant is rotated")
        assert deployment.ended() == []
    _assert_nothing_lost(sandbox, database_url, GRANTS)


async def test_a_worker_cut_off_from_the_database_alone(
    *,
    sandbox: RunningSandbox,
    make_container: ContainerMaker,
    database_url: str,
    broker_url: str,
    keys: Secret,
    tmp_path: Path,
) -> None:
    """The answers that it still reads reach the database through the broker's escrow and another worker."""
    client = register(sandbox, behaviour=Behaviour(latency=Latency(fixed=8.0)), client=ALL_AT_ONCE)
    await _adopted(make_container, sandbox, client)
    # A machine of its own: the other worker cannot read its escrow's folder.
    alone, others = tmp_path / "cut off", tmp_path / "others"
    alone.mkdir()
    others.mkdir()

    def deploy(folder: Path, database: str) -> AbstractContextManager[Deployment]:
        return deployed(
            folder,
            database_url=database,
            broker_url=broker_url,
            keys=keys,
            configuration=client.toml,
            CLIENT_SECRET=SECRET,
        )

    with TcpProxy(database_url) as proxy, deploy(alone, proxy.url) as cut_off:
        wait_until(lambda: sandbox.control.report().rotations == GRANTS, WITHIN, "every request is in flight")
        sandbox.control.change_behaviour(client.name, Behaviour())
        proxy.refuse()
        with deploy(others, database_url) as deployment:
            healed = "state = 'active' AND generation = 1 AND leased_until IS NULL"
            wait_until(lambda: _count(database_url, healed) == GRANTS, WITHIN, "every answer is stored")
            assert _escrowed(alone) == GRANTS, "the answers came by way of the broker"
            proxy.accept()
            wait_until(lambda: _escrowed(alone) == 0, WITHIN, "the worker that is back has nothing left to store")
            assert (deployment.ended(), cut_off.ended()) == ([], [])
    _assert_nothing_lost(sandbox, database_url, GRANTS)
