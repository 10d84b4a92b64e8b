"""Answers of workers that were believed dead, and what an operator did to their grants meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.conftest import ContainerMaker
from tests.support.database import execute, value
from tests.support.sandbox_clients import adopt, make_due, register
from tests.support.settling import claim, drain, new_tokens, settle
from tests.support.waiting import until
from worker.bootstrap import Container
from worker.domain.grant import GrantState
from worker.sandbox.behaviour import Behaviour, Latency
from worker.sandbox.profiles import RFC6749
from worker.sandbox.server import RunningSandbox
from worker.storage.settle_queue import Settled
from worker.usecases.access_token import FreshToken

pytestmark = pytest.mark.anyio


async def _rescue(container: Container) -> None:
    await execute(container, "UPDATE grants SET leased_until = now() - interval '1 s' WHERE leased_until IS NOT NULL")
    await container.dispatch.dispatch()


async def test_a_late_answer_brings_a_given_up_grant_back(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """A grant that was given up for its worker's silence lives on when that worker's answer comes after all."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        [(grant_id, _seeded)] = await adopt(container, sandbox, client)
        await claim(container, client, 1)
        await _rescue(container)
        await execute(
            container,
            "UPDATE grants SET rotate_at = now(), doubt_since = now() - interval '2 days',"
            " access_expires_at = now() - interval '1 day'",
        )
        [probing] = (await claim(container, client, 1)).grants
        await _rescue(container)
        given_up = await container.grants.show(grant_id)
        assert given_up is not None
        assert (given_up.state, given_up.state_reason) == (GrantState.RECONSENT_REQUIRED, "rotation_reply_lost")

        assert await settle(container, probing, new_tokens(probing.claimed_at)) is Settled.STORED

        view = await container.grants.show(grant_id)
        assert view is not None
        assert (view.state, view.state_reason, view.generation) == (GrantState.ACTIVE, None, 1)
        assert view.rotate_at == probing.claimed_at + timedelta(minutes=45)
        revived = "SELECT count(*) FROM events WHERE type = 'grant.revived' AND grant_id = :id"
        assert await value(container, revived, id=grant_id) == 1


async def test_a_late_answer_in_a_grace_gives_back_nothing_that_is_in_use(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """Within a reuse grace two workers are given the same tokens; the one that comes too late must not revoke them."""
    slow = Behaviour(reuse_grace=3600, latency=Latency(fixed=3.0))
    client = register(
        sandbox,
        name="grace-test",
        profile=RFC6749,
        behaviour=slow,
        provider=f"""
            old_token = "grace"
            reuse_grace = "1h"
            revocation_endpoint = "{sandbox.url}{RFC6749.prefix}/revoke"
            revocation = "token"
        """,
    )
    async with make_container(client.toml, **client.environment) as container:
        [(grant_id, _seeded)] = await adopt(container, sandbox, client)
        configured = container.configuration.registry.client(client.name)
        [grant] = (await claim(container, client, 1)).grants
        late = asyncio.create_task(container.rotation.rotate(grant, configured))
        await until(lambda: sandbox.control.report().rotations == 1, 10.0, "the first request is under way")
        sandbox.control.change_behaviour(client.name, replace(slow, latency=Latency()))
        await _rescue(container)
        await make_due(container)
        await drain(container, client)
        stored = await container.grants.show(grant_id)
        assert stored is not None
        assert (stored.state, stored.generation) == (GrantState.ACTIVE, 1)

        assert (await late).settled is Settled.SUPERSEDED

        again = await container.access_tokens.refresh(grant_id)
        assert isinstance(again, FreshToken), "the refresh token in use still works"
        assert again.generation == 2


async def test_a_pause_keeps_the_doubt(sandbox: RunningSandbox, make_container: ContainerMaker) -> None:
    """A grant that was paused while its worker died stays paused, and what its doubt began with is kept."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        [(grant_id, _seeded)] = await adopt(container, sandbox, client)
        [grant] = (await claim(container, client, 1)).grants
        await execute(container, "UPDATE grants SET state = 'paused', rotate_at = NULL")

        await _rescue(container)

        view = await container.grants.show(grant_id)
        assert view is not None
        assert (view.state, view.rotate_at, view.leased) == (GrantState.PAUSED, None, False)
        assert await value(container, "SELECT presentations FROM grants") == 1
        assert await value(container, "SELECT doubt_since FROM grants") == grant.claimed_at
