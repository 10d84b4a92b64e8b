"""The database away while answers come: their tokens go into the escrow, and from there into the database."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from tests.support.sandbox_clients import SECRET, SandboxClient, adopt, register
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import until
from worker.bootstrap import Container, create_container
from worker.domain.grant import GrantState
from worker.domain.secret import Secret
from worker.sandbox.behaviour import Behaviour, Latency
from worker.sandbox.server import RunningSandbox
from worker.settings import Settings
from worker.storage.away import AWAY

pytestmark = pytest.mark.anyio

GRANTS = 40
WITHIN = 20.0  # seconds


def _wire(folder: Path, client: SandboxClient, *, database_url: str, broker_url: str, keys: Secret) -> Container:
    config = folder / "evergrant.toml"
    config.write_text(client.toml, encoding="utf-8")
    settings = Settings(
        database_url=Secret(database_url),
        broker_url=Secret(broker_url),
        keys=keys,
        config=config,
        home_dir=folder / "home",
    )
    environment = {"CLIENT_SECRET": SECRET}
    return create_container(settings, name="test", environment=environment, registry=CollectorRegistry())


async def test_tokens_survive_the_database_and_the_worker(
    sandbox: RunningSandbox, database_url: str, broker_url: str, keys: Secret, tmp_path: Path
) -> None:
    """Tokens read while the database is away survive the worker's end too, and none of them is lost."""
    client = register(sandbox, behaviour=Behaviour(latency=Latency(fixed=1.0)))
    with TcpProxy(database_url) as proxy:
        first = _wire(tmp_path, client, database_url=proxy.url, broker_url=broker_url, keys=keys)
        adopted = await adopt(first, sandbox, client, GRANTS)
        draining = asyncio.create_task(first.drains.drain(first.configuration.registry.client(client.name), 30.0))

        async def all_in_flight() -> bool:
            return sandbox.control.report().rotations == GRANTS

        await until(all_in_flight, WITHIN, "every request is in flight")
        proxy.refuse()

        async def all_kept() -> bool:
            return await first.escrow.depth() == GRANTS

        await until(all_kept, WITHIN, "every token is in the escrow")
        # The process ends now, as if it were killed: nothing of it is awaited.
        draining.cancel()
        await first.http.aclose()

    kept = b"".join(path.read_bytes() for path in (tmp_path / "home" / "escrow").iterdir())
    assert kept.count(b'"refresh_token"') == GRANTS
    second = _wire(tmp_path, client, database_url=database_url, broker_url=broker_url, keys=keys)
    try:
        await second.dispatch.dispatch()
        assert await second.escrow.depth() == 0
        views = await second.grants.list(client=client.name, state=None, after=None, limit=1000)
        assert {(view.state, view.generation) for view in views} == {(GrantState.ACTIVE, 1)}
        for grant_id, _seeded in adopted[:3]:
            await second.access_tokens.refresh(grant_id)
    finally:
        await second.close()
        await first.close()
    report = sandbox.control.report()
    assert (report.double_spends, report.presented_more_than_once) == (0, 0)


async def test_nothing_is_spent_without_the_database(
    sandbox: RunningSandbox, database_url: str, broker_url: str, keys: Secret, tmp_path: Path
) -> None:
    """With the database away no request leaves at all, and a drain ends with an error instead of a guess."""
    client = register(sandbox)
    with TcpProxy(database_url) as proxy:
        container = _wire(tmp_path, client, database_url=proxy.url, broker_url=broker_url, keys=keys)
        try:
            await adopt(container, sandbox, client, GRANTS)
            proxy.refuse()
            with pytest.raises(AWAY):
                await container.drains.drain(container.configuration.registry.client(client.name), 5.0)
            assert sandbox.control.report().refreshes_presented == 0
            proxy.accept()
            await container.drains.drain(container.configuration.registry.client(client.name), 30.0)
            assert sandbox.control.report().rotations == GRANTS
        finally:
            await container.close()
