"""What must not end grants: a wrong client secret, and a provider that says `invalid_grant` to everybody."""

from __future__ import annotations

import os

import pytest
from sqlalchemy import text

from tests.conftest import ContainerMaker
from tests.support.sandbox_clients import SECRET, adopt, make_due, register
from worker.bootstrap import Container
from worker.domain.brake import FEWEST
from worker.domain.grant import GrantState
from worker.domain.secret import Secret
from worker.sandbox.misbehaviour import Misbehaviour, Order
from worker.sandbox.refusal import ErrorCode
from worker.sandbox.server import RunningSandbox

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

#: EVERGRANT_TEST_GRANTS=10000 makes it the size that the project promises.
GRANTS = int(os.environ.get("EVERGRANT_TEST_GRANTS", "200"))
DRAIN_SECONDS = 60.0


async def _states(container: Container) -> dict[GrantState, int]:
    async with container.engine.connect() as connection:
        rows = await connection.execute(text("SELECT state, count(*) FROM grants GROUP BY state"))
        return {GrantState(row[0]): row[1] for row in rows}


async def _pass_time(container: Container) -> None:
    """Let a client's waits be over: its canary's, its ramp's, its throttle's."""
    async with container.engine.begin() as connection:
        await connection.execute(
            text("""
                UPDATE client_status SET canary_at = now(), throttled_until = NULL,
                       breaker_opened_at = breaker_opened_at - interval '1 hour',
                       resumed_at = resumed_at - interval '1 hour'
            """)
        )


async def test_a_wrong_client_secret_for_a_while(sandbox: RunningSandbox, make_container: ContainerMaker) -> None:
    """No grant changes its state, only a handful of requests leave, and all go on once the secret is right again."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        configured = container.configuration.registry.client(client.name)
        await adopt(container, sandbox, client, GRANTS)
        sandbox.control.change_secret(client.name, Secret("rotated without telling us"))

        await container.drains.drain(configured, DRAIN_SECONDS)
        first = sandbox.control.report().errors[ErrorCode.INVALID_CLIENT]
        assert await container.dispatch.dispatch() == [], "no ticket while the breaker is open"
        for _ in range(5):
            await _pass_time(container)
            await container.drains.drain(configured, DRAIN_SECONDS)

        assert await _states(container) == {GrantState.ACTIVE: GRANTS}
        canaries = sandbox.control.report().errors[ErrorCode.INVALID_CLIENT] - first
        assert canaries == 5, "one canary each time"
        assert first <= configured.limits.max_in_flight, "no more than what was in flight at the first answer"

        sandbox.control.change_secret(client.name, Secret(SECRET))
        await _pass_time(container)
        await container.drains.drain(configured, DRAIN_SECONDS)
        await _pass_time(container)
        await container.drains.drain(configured, DRAIN_SECONDS)
        views = await container.grants.list(client=client.name, state=None, after=None, limit=GRANTS)
        assert {(view.state, view.generation, view.strikes) for view in views} == {(GrantState.ACTIVE, 1, 0)}


async def test_a_provider_that_disowns_everybody(sandbox: RunningSandbox, make_container: ContainerMaker) -> None:
    """At most the brake's room of grants is marked; the rest are suspects, and live on by themselves afterwards."""
    client = register(sandbox, provider="strikes = 1")
    async with make_container(client.toml, **client.environment) as container:
        configured = container.configuration.registry.client(client.name)
        await adopt(container, sandbox, client, GRANTS)
        order = sandbox.control.order(Order(kind=Misbehaviour.SPURIOUS_INVALID_GRANT, probability=1.0))

        for _ in range(3):
            await container.drains.drain(configured, DRAIN_SECONDS)
            await make_due(container)
        room = max(FEWEST, int(GRANTS * 0.02))
        dead = GrantState.RECONSENT_REQUIRED
        assert await _states(container) == {dead: room, GrantState.SUSPECT: GRANTS - room}

        sandbox.control.cancel_order(order)
        for _ in range(2):
            await container.drains.drain(configured, DRAIN_SECONDS)
            await _pass_time(container)
        assert await _states(container) == {dead: room, GrantState.ACTIVE: GRANTS - room}
        async with container.engine.connect() as connection:
            braked = await connection.execute(text("SELECT braked_at FROM client_status"))
            assert braked.scalar_one() is None, "the brake has released itself"
            events = await connection.execute(text("SELECT type FROM events WHERE type LIKE 'client.%' ORDER BY id"))
            assert list(events.scalars()) == ["client.braked", "client.resumed"]
    assert sandbox.control.report().double_spends == 0
