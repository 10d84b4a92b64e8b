"""Grants of a provider whose access tokens do not end: kept, handed out, and never refreshed."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.conftest import ContainerMaker
from tests.support.database import execute, value
from tests.support.sandbox_clients import register
from tests.support.settling import drain
from worker.domain.secret import Secret
from worker.sandbox.server import RunningSandbox
from worker.usecases.access_token import FreshToken

pytestmark = pytest.mark.anyio

TOKEN = Secret("a-token-that-does-not-end")


@pytest.mark.parametrize("access_token", [None, TOKEN], ids=["named once", "named twice"])
async def test_it_is_adopted_and_left_alone(
    sandbox: RunningSandbox, make_container: ContainerMaker, access_token: Secret | None
) -> None:
    """Its one token is handed out for any time that is asked for, and is not due within a year."""
    client = register(sandbox, provider='style = "no_refresh"')
    async with make_container(client.toml, **client.environment) as container:
        grant_id, _arrival = await container.adoption.adopt(
            client.name, "customer-42", refresh_token=TOKEN, access_token=access_token
        )

        assert await value(container, "SELECT rotate_at > now() + interval '365 days' FROM grants")
        found = await container.access_tokens.fresh(grant_id, timedelta(days=30))

    assert isinstance(found, FreshToken)
    assert found.access_token == TOKEN
    assert sandbox.control.report().refreshes_presented == 0


async def test_no_request_is_ever_made_for_it(sandbox: RunningSandbox, make_container: ContainerMaker) -> None:
    """Even where it falls due, or is refreshed by hand, the provider is asked nothing and the token stays."""
    client = register(sandbox, provider='style = "no_refresh"')
    async with make_container(client.toml, **client.environment) as container:
        grant_id, _arrival = await container.adoption.adopt(client.name, "customer-42", refresh_token=TOKEN)
        await execute(container, "UPDATE grants SET rotate_at = now()")
        assert await drain(container, client) == 1
        found = await container.access_tokens.refresh(grant_id)

        assert isinstance(found, FreshToken)
        assert found.access_token == TOKEN
        assert await value(container, "SELECT rotate_at > now() + interval '365 days' FROM grants")
        assert await value(container, "SELECT state FROM grants") == "active"
    assert sandbox.control.report().refreshes_presented == 0
