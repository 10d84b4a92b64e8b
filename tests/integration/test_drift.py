"""What an answer takes away or brings along beside tokens: scopes that are gone, values that a provider wants kept."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.conftest import ContainerMaker
from tests.support.database import rows, value
from tests.support.sandbox_clients import SandboxClient, adopt, make_due, register
from tests.support.settling import claim, new_tokens, settle
from worker.bootstrap import Container
from worker.domain.outcome import Rotated, Tokens
from worker.domain.secret import Secret
from worker.domain.settlement import decide
from worker.sandbox.server import RunningSandbox

pytestmark = pytest.mark.anyio

TOKENS = Tokens(access_token=Secret("at"), refresh_token=Secret("rt-next"), access_lifetime=None)


async def rotated(container: Container, client: SandboxClient, tokens: Tokens) -> None:
    """Claim the one grant there is and settle it as if these tokens had come."""
    await make_due(container)
    [grant] = (await claim(container, client, 1)).grants
    configured = container.configuration.registry.client(client.name)
    settlement = decide(
        Rotated(tokens=tokens),
        grant=grant,
        facts=configured.provider.facts,
        keep=configured.keep,
        issued_at=grant.claimed_at,
        now=grant.claimed_at,
        draw=0.5,
    )
    await settle(container, grant, settlement)


async def test_a_lost_scope_is_marked_told_once_and_forgiven(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """The grant says which scopes it lacks for as long as it does, and the event comes when it loses them."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        await adopt(container, sandbox, client)
        mark = "SELECT lost_scopes FROM grants"
        for number, scopes, lost in ((1, ("profile",), ["organization"]), (2, ("profile",), ["organization"])):
            await rotated(container, client, replace(TOKENS, refresh_token=Secret(f"rt-{number}"), scopes=scopes))
            assert await value(container, mark) == lost
            [view] = await container.grants.list(client=None, state=None, after=None, limit=2)
            assert view.lost_scopes == tuple(lost)
        await rotated(container, client, replace(TOKENS, refresh_token=Secret("rt-3")))
        assert await value(container, mark) == ["organization"], "an answer that names no scopes changes none"
        every = replace(TOKENS, refresh_token=Secret("rt-4"), scopes=("organization", "profile"))
        await rotated(container, client, every)
        assert await value(container, mark) is None

        [told] = await rows(container, "SELECT data FROM events WHERE type = 'grant.scopes_narrowed'")
        assert told.data == {"generation": 1, "lost": ["organization"]}


async def test_a_refresh_token_that_should_have_come_is_told_once_a_day(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """Where the provider always rotates, an answer without a refresh token is stored and alarms."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        await adopt(container, sandbox, client)
        for _ in range(2):
            await rotated(container, client, replace(TOKENS, refresh_token=None))

        missing = "SELECT count(*) FROM events WHERE type = 'grant.refresh_token_missing'"
        assert await value(container, missing) == 1
        assert await value(container, "SELECT generation FROM grants WHERE state = 'active'") == 0


async def test_what_answers_bring_along_is_kept_and_handed_to_the_next_request(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """Captured values are merged, newest first, outlast answers without any, and come with the next claim."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        await adopt(container, sandbox, client)
        for number, captured in enumerate(({"host": "eu1", "company": "7"}, {}, {"host": "us2"})):
            await rotated(container, client, replace(TOKENS, refresh_token=Secret(f"rt-{number}"), captured=captured))

        await make_due(container)
        [grant] = (await claim(container, client, 1)).grants
        assert grant.captured == {"host": "us2", "company": "7"}
        assert grant.access_token == Secret("at")


async def test_a_repeated_refresh_token_is_no_new_generation(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """An answer that repeats the presented token leaves generation and lineage as they are."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        await adopt(container, sandbox, client)
        [grant] = (await claim(container, client, 1)).grants
        again = new_tokens(grant.claimed_at)
        again = replace(again, tokens=replace(again.tokens, refresh_token=grant.refresh_token))
        await container.rotation.settles.settle(grant.lease, again, grant.refresh_token)

        assert await value(container, "SELECT generation FROM grants") == 0
        assert await value(container, "SELECT spent_fingerprint FROM rotations") is None


async def test_an_adopted_grant_learns_its_account_once(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """The first answer that tells the account is kept, with where it stood; a later one does not change it."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        await adopt(container, sandbox, client)
        known = "SELECT account, account_source FROM grants"
        read = ("7", "answer:user.id")
        for number, account, kept in ((1, None, (None, None)), (2, "7", read), (3, "8", read)):
            token = Secret(f"rt-{number}")
            await rotated(
                container,
                client,
                replace(TOKENS, refresh_token=token, account=account, account_source="answer:user.id"),
            )
            [row] = await rows(container, known)
            assert tuple(row) == kept
