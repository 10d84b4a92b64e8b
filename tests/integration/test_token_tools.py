"""Asking about a token without presenting it, giving one back that came too late, and what the lineage remembers."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text

from tests.conftest import ContainerMaker
from tests.support.sandbox_clients import adopt, make_due, register
from tests.support.waiting import until
from worker.bootstrap import Container
from worker.domain.grant import GrantState
from worker.sandbox.behaviour import Behaviour, Latency
from worker.sandbox.misbehaviour import Misbehaviour, Order
from worker.sandbox.profiles import RFC6749
from worker.sandbox.server import RunningSandbox

pytestmark = pytest.mark.anyio

DRAIN_SECONDS = 20.0


async def _last_event(container: Container) -> dict[str, object]:
    async with container.engine.connect() as connection:
        found = await connection.execute(text("SELECT data FROM events ORDER BY id DESC LIMIT 1"))
        data: dict[str, object] = found.scalar_one()
        return data


@pytest.mark.parametrize(
    ("fault", "state"),
    [(Misbehaviour.LOST_REPLY, GrantState.RECONSENT_REQUIRED), (Misbehaviour.ERROR_BEFORE, GrantState.ACTIVE)],
)
async def test_a_doubt_is_asked_about_first(
    sandbox: RunningSandbox, make_container: ContainerMaker, fault: Misbehaviour, state: GrantState
) -> None:
    """Where refresh tokens are introspected, a spent one is never presented again, and a good one is at once."""
    endpoint = f'introspection_endpoint = "{sandbox.url}{RFC6749.prefix}/introspect"'
    client = register(sandbox, name="asked", profile=RFC6749, provider=f'old_token = "invalidated"\n{endpoint}')
    async with make_container(client.toml, **client.environment) as container:
        configured = container.configuration.registry.client(client.name)
        [(grant_id, _)] = await adopt(container, sandbox, client, due=False)
        await make_due(container)
        sandbox.control.order(Order(kind=fault, times=1))
        await container.drains.drain(configured, DRAIN_SECONDS)
        doubtful = await container.grants.show(grant_id)
        assert doubtful is not None
        assert doubtful.state is GrantState.IN_DOUBT
        await make_due(container)
        await container.drains.drain(configured, DRAIN_SECONDS)

        view = await container.grants.show(grant_id)
        assert view is not None
        assert view.state is state
    report = sandbox.control.report()
    assert (report.replays_after_withheld_answer, report.double_spends) == (0, 0)


async def test_a_token_that_came_too_late_is_given_back(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """An answer that finds its grant re-consented meanwhile is superseded, and its token revoked at the provider."""
    tools = f'revocation_endpoint = "{sandbox.url}{RFC6749.prefix}/revoke"\nrevocation = "token"'
    client = register(
        sandbox,
        name="late",
        profile=RFC6749,
        behaviour=Behaviour(latency=Latency(fixed=1.0)),
        provider=f'old_token = "invalidated"\n{tools}',
    )
    async with make_container(client.toml, **client.environment) as container:
        configured = container.configuration.registry.client(client.name)
        [(grant_id, _)] = await adopt(container, sandbox, client)
        draining = asyncio.create_task(container.drains.drain(configured, DRAIN_SECONDS))

        async def sent() -> bool:
            return sandbox.control.report().rotations == 1

        await until(sent, 10.0, "the refresh is in flight")
        async with container.engine.begin() as connection:  # what a re-consent does to the row, tokens aside
            await connection.execute(
                text("UPDATE grants SET generation = generation + 1, lease_id = NULL, leased_until = NULL")
            )
        await draining

        view = await container.grants.show(grant_id)
        assert view is not None
        assert view.generation == 1, "nothing of the late answer is stored"
    [family] = sandbox.control.families(client.name)
    assert family.status == "revoked"


async def test_the_lineage_tells_of_a_token_that_was_spent_before(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """When an older copy of a token is refused, the event says for which generation it had been spent."""
    client = register(sandbox, provider="strikes = 1")
    async with make_container(client.toml, **client.environment) as container:
        configured = container.configuration.registry.client(client.name)
        await adopt(container, sandbox, client)
        async with container.engine.begin() as connection:
            await connection.execute(text("CREATE TABLE backup AS SELECT id, refresh_token FROM grants"))
        await container.drains.drain(configured, DRAIN_SECONDS)
        async with container.engine.begin() as connection:  # as if the row were restored from a backup
            await connection.execute(
                text("UPDATE grants AS g SET refresh_token = b.refresh_token FROM backup AS b WHERE b.id = g.id")
            )
        await make_due(container)
        await container.drains.drain(configured, DRAIN_SECONDS)

        assert await _last_event(container) == {"generation": 1, "reason": "invalid_grant", "spent_for_generation": 1}
        async with container.engine.connect() as connection:
            kept = await connection.execute(text("SELECT spent_fingerprint FROM rotations"))
            assert kept.scalar_one().startswith("test:")
