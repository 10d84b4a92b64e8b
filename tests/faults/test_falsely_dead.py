"""What must not end grants: a wrong client secret, and a provider that says `invalid_grant` to everybody."""

from __future__ import annotations

import os

import pytest
from sqlalchemy import text

from tests.conftest import ContainerMaker
from tests.support.database import execute, value
from tests.support.sandbox_clients import SECRET, adopt, make_due, register
from worker.bootstrap import Container
from worker.domain.brake import FEWEST, JUDGED_AFTER, WINDOW
from worker.domain.client_health import SILENT_AFTER
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


async def test_a_provider_that_answers_nothing_stops_its_client(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """Few tokens go into a silence, none of their grants dies of it, and all go on once there are answers again."""
    client = register(sandbox, client="max_in_flight = 5")
    async with make_container(client.toml, **client.environment) as container:
        configured = container.configuration.registry.client(client.name)
        await adopt(container, sandbox, client, GRANTS)
        order = sandbox.control.order(Order(kind=Misbehaviour.ERROR_BEFORE, probability=1.0))

        for _ in range(5):
            await container.drains.drain(configured, DRAIN_SECONDS)
            await _pass_time(container)
        silent = (await _states(container))[GrantState.IN_DOUBT]
        assert silent <= SILENT_AFTER + configured.limits.max_in_flight + 5, (
            "what was in flight, and a canary each time"
        )

        sandbox.control.cancel_order(order)
        for _ in range(3):
            await make_due(container)
            await _pass_time(container)
            await container.drains.drain(configured, DRAIN_SECONDS)
        assert await _states(container) == {GrantState.ACTIVE: GRANTS}


async def _suspects_are_tried(container: Container, client: str) -> None:
    await execute(container, "UPDATE grants SET rotate_at = now() WHERE state = 'suspect'")
    await container.drains.drain(container.configuration.registry.client(client), DRAIN_SECONDS)


async def test_an_operator_knows_that_the_deaths_are_real(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """Released without a word the brake goes on again at the next deaths; with it all die, and those to come too."""
    client = register(sandbox, provider="strikes = 1")
    async with make_container(client.toml, **client.environment) as container:
        adopted = await adopt(container, sandbox, client, 30)
        for _grant_id, seeded in adopted[:20]:
            sandbox.control.revoke_family(seeded.family_id)
        await container.drains.drain(container.configuration.registry.client(client.name), DRAIN_SECONDS)
        suspects = 20 - FEWEST
        braked = {GrantState.RECONSENT_REQUIRED: FEWEST, GrantState.SUSPECT: suspects, GrantState.ACTIVE: 10}
        assert await _states(container) == braked

        assert await container.statuses.resume(client.name)
        await _pass_time(container)
        await _suspects_are_tried(container, client.name)
        assert await _states(container) == braked
        assert await value(container, "SELECT braked_at FROM client_status") is not None

        assert await container.statuses.resume(client.name, deaths_are_real=True)
        await _pass_time(container)
        await _suspects_are_tried(container, client.name)
        assert await _states(container) == {GrantState.RECONSENT_REQUIRED: 20, GrantState.ACTIVE: 10}
        for _grant_id, seeded in adopted[20:]:
            sandbox.control.revoke_family(seeded.family_id)
        await make_due(container)
        await container.drains.drain(container.configuration.registry.client(client.name), DRAIN_SECONDS)
        assert await _states(container) == {GrantState.RECONSENT_REQUIRED: 30}
        assert await value(container, "SELECT braked_at FROM client_status") is None


@pytest.mark.parametrize("is_busy", [True, False], ids=["busy", "hardly refreshed"])
async def test_a_suspect_that_stays_refused_is_dead_at_last(
    sandbox: RunningSandbox, make_container: ContainerMaker, *, is_busy: bool
) -> None:
    """After hours, while the client's other grants are refreshed, the brake lets suspects go and comes off itself.

    Of a client that is hardly refreshed the hours are counted, for its rotations are long past.
    """
    client = register(sandbox, provider="strikes = 1")
    async with make_container(client.toml, **client.environment) as container:
        configured = container.configuration.registry.client(client.name)
        adopted = await adopt(container, sandbox, client, 20)
        for _grant_id, seeded in adopted[: FEWEST + 3]:
            sandbox.control.revoke_family(seeded.family_id)
        await container.drains.drain(configured, DRAIN_SECONDS)
        alive = 20 - FEWEST - 3
        braked = {GrantState.RECONSENT_REQUIRED: FEWEST, GrantState.SUSPECT: 3, GrantState.ACTIVE: alive}
        assert await _states(container) == braked

        await make_due(container)
        await container.drains.drain(configured, DRAIN_SECONDS)
        assert await _states(container) == braked, "refused again, but not for long"
        await execute(
            container, "UPDATE grants SET state_since = now() - :ago WHERE state = 'suspect'", ago=JUDGED_AFTER
        )
        if not is_busy:
            await execute(container, "UPDATE rotations SET at = at - interval '1 hour'")
            await _suspects_are_tried(container, client.name)
            assert await _states(container) == braked, "nothing speaks for the provider"
            await container.tally.write()
        await _suspects_are_tried(container, client.name)

        assert await _states(container) == {GrantState.RECONSENT_REQUIRED: FEWEST + 3, GrantState.ACTIVE: alive}
        assert await value(container, "SELECT braked_at FROM client_status") is not None
        await execute(container, "UPDATE client_status SET braked_at = braked_at - :window", window=WINDOW)
        await container.dispatch.dispatch()
        assert await value(container, "SELECT braked_at FROM client_status") is None
