"""How drains share a process: who is slow takes no place that others need, and claims are small."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from tests.conftest import ContainerMaker
from tests.support.database import execute, rows, value
from tests.support.sandbox_clients import SandboxClient, adopt, register
from tests.support.settling import claim, drain
from tests.support.waiting import until
from worker.bootstrap import Container
from worker.sandbox.behaviour import Behaviour, Latency
from worker.sandbox.server import RunningSandbox
from worker.storage.claim import Claimed

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


async def test_a_drain_ends_with_its_last_answers(
    sandbox: RunningSandbox, make_container: ContainerMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the last answers are stored together, the drain is over: it does not wait until it looks again."""
    monkeypatch.setattr("worker.usecases.drain.LOOK_AGAIN", 60.0)
    client = register(sandbox, behaviour=Behaviour(access_lifetime=86_400, latency=Latency(fixed=0.3)))
    async with make_container(client.toml, **client.environment) as container:
        await adopt(container, sandbox, client, 20)

        async with asyncio.timeout(30.0):
            assert await drain(container, client) == 20


async def test_a_ticket_that_comes_while_a_claim_is_made_is_heard(
    sandbox: RunningSandbox, make_container: ContainerMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What falls due after a claim has looked is found by the drain that is told meanwhile, not a tick later."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        claim_due = container.access_tokens.claims.claim_due
        tickets: list[int] = []

        async def interrupted(name: str, **given: Any) -> Claimed:
            claimed = await claim_due(name, **given)
            if not tickets:
                await adopt(container, sandbox, client, 1)
                tickets.append(await drain(container, client))
            return claimed

        monkeypatch.setattr(container.access_tokens.claims, "claim_due", interrupted)
        assert await drain(container, client) == 1
        assert tickets == [0]


async def test_a_client_is_claimed_from_in_portions(
    sandbox: RunningSandbox, make_container: ContainerMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many places are free, a claim takes no more than its limit, and the drain goes on until all are done."""
    monkeypatch.setattr("worker.usecases.drain.CLAIM_LIMIT", 4)
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        await adopt(container, sandbox, client, 30)
        asked: list[int] = []
        claim_due = container.access_tokens.claims.claim_due

        async def noted(name: str, **given: Any) -> Claimed:
            asked.append(given["free"])
            return await claim_due(name, **given)

        monkeypatch.setattr(container.access_tokens.claims, "claim_due", noted)
        assert await drain(container, client) == 30
        assert max(asked) == 4


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
