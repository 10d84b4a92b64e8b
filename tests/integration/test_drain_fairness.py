"""Several clients in one process: one that answers slowly takes no places that the others need."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from tests.conftest import ContainerMaker
from tests.support.database import execute, rows, value
from tests.support.sandbox_clients import SandboxClient, adopt, register
from tests.support.settling import claim, drain
from tests.support.waiting import until
from worker.bootstrap import Container
from worker.sandbox.behaviour import Behaviour, Latency
from worker.sandbox.server import RunningSandbox

pytestmark = pytest.mark.anyio

#: Seconds that the slow providers take: longer than everything else in the test.
SLOW = 8.0


async def _is_at_work(container: Container, client: SandboxClient) -> bool:
    found = f"SELECT count(*) FROM grants WHERE client = '{client.name}' AND leased_until IS NOT NULL"
    return bool(await value(container, found))


@pytest.mark.slow
async def test_slow_clients_do_not_hold_up_a_quick_one(sandbox: RunningSandbox, make_container: ContainerMaker) -> None:
    """While two slow clients hold all the places that they may, another client's grants are rotated at once."""
    slow = [
        register(
            sandbox,
            name=f"slow-{number}",
            behaviour=Behaviour(latency=Latency(fixed=SLOW)),
            client="max_in_flight = 1000",
        )
        for number in range(2)
    ]
    quick = register(sandbox, name="quick", client="[worker]\nmax_in_flight = 10")
    configuration = "\n".join(client.toml for client in (*slow, quick))
    async with make_container(configuration, **quick.environment) as container:
        for client in slow:
            await adopt(container, sandbox, client, 30)
        await adopt(container, sandbox, quick, 20)
        draining = [asyncio.create_task(drain(container, client)) for client in slow]
        for client in slow:
            await until(partial(_is_at_work, container, client), 10.0, f"{client.name} is at work")

        assert await drain(container, quick) == 20

        rotated = await value(container, "SELECT count(*) FROM rotations WHERE client LIKE 'slow%'")
        assert rotated == 0, "the slow ones had not even answered"
        for task in draining:
            task.cancel()
        await asyncio.gather(*draining, return_exceptions=True)


async def test_a_claim_goes_on_where_the_one_before_had_come_to(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """With a place in line, what was due before is passed over; without one it is found."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        await adopt(container, sandbox, client, 4)
        await execute(
            container,
            "UPDATE grants SET rotate_at = now() - make_interval(secs => n * 10) FROM (SELECT id AS numbered,"
            " row_number() OVER (ORDER BY subject)::int AS n FROM grants) AS lines WHERE id = numbered",
        )
        order = [row.subject for row in await rows(container, "SELECT subject FROM grants ORDER BY rotate_at")]

        first = await claim(container, client, 1)
        second = await claim(container, client, 1, since=first.reached)
        await execute(container, f"UPDATE grants SET leased_until = NULL WHERE subject = '{order[0]}'")
        third = await claim(container, client, 1, since=second.reached)
        from_the_beginning = await claim(container, client, 1)

        claimed = [found.grants[0].subject for found in (first, second, third, from_the_beginning)]
        assert claimed == [*order[:3], order[0]]
