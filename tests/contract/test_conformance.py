"""Four authorization servers that nobody here wrote, in eight settings: each goes through the same scenarios.

What Evergrant knows of a server is the TOML file beside its harness, read as any configuration is. What is expected of
an answer follows from the facts in it; the one thing that they do not tell, whether reuse ends the whole grant, each
setting says for itself.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Final

import pytest

from tests.authorization_servers import authlib_server, django_oauth_toolkit, node_oauth2_server, oidc_provider
from tests.authorization_servers.conformance import ServerUnderTest, started
from tests.authorization_servers.fixtures import without_node
from tests.authorization_servers.kept_grant import OWNER, KeptGrant, consent
from tests.authorization_servers.npm_package import NodeMissingError
from tests.conftest import ContainerMaker
from tests.support.database import execute, rows, value
from worker.bootstrap import Container
from worker.domain.facts import OldToken, Rotation
from worker.domain.grant import GrantState
from worker.domain.outcome import Dead, Outcome, Rotated
from worker.domain.secret import Secret
from worker.storage.consents import Arrival
from worker.storage.sealing import KeyRing, parse_keys

pytestmark = pytest.mark.anyio

REFRESHES: Final = 20
SETTINGS: Final = (
    *oidc_provider.SETTINGS,
    *node_oauth2_server.SETTINGS,
    *django_oauth_toolkit.SETTINGS,
    *authlib_server.SETTINGS,
)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(setting, id=setting.name, marks=[pytest.mark.node] if setting.needs_node else [])
        for setting in SETTINGS
    ],
)
def server(request: pytest.FixtureRequest) -> Iterator[ServerUnderTest]:
    """Run one of the servers, in one of its settings, for all scenarios."""
    with ExitStack() as closing:
        try:
            running = closing.enter_context(started(request.param))
        except NodeMissingError as missing:
            without_node(missing)
        yield running


@pytest.fixture
async def container(server: ServerUnderTest, make_container: ContainerMaker) -> AsyncIterator[Container]:
    """Wire a process that is told of the server what its TOML file says."""
    async with make_container(server.toml, CLIENT_SECRET=server.setting.secret.reveal()) as wired:
        yield wired


@pytest.fixture
async def grant(container: Container, keys: Secret) -> KeptGrant:
    """Have an owner consent."""
    stored = await consent(container)
    return KeptGrant(id=stored.grant_id, container=container, key_ring=KeyRing(parse_keys(keys), os.urandom))


def refusal(outcome: Outcome) -> tuple[int | None, str | None]:
    """Return the status and the code of an answer that says that the refresh token has ended."""
    assert isinstance(outcome, Dead), outcome
    return outcome.cause.status, outcome.cause.code


async def held(grant: KeptGrant) -> dict[str, Any]:
    """Return what of a grant's row no fault of ours may change."""
    columns = "state, generation, access_token, refresh_token, strikes, failures, presentations, rotated_at"
    [row] = await rows(grant.container, f"SELECT {columns} FROM grants")
    return dict(row._mapping)


async def test_the_code_flow_stores_a_grant(server: ServerUnderTest, grant: KeptGrant) -> None:
    """The owner signs in and allows at the server's own pages, and the access token that is stored is theirs."""
    view = await grant.view()
    assert (view.state, view.generation, view.scopes) == (GrantState.ACTIVE, 0, grant.client.scopes)
    assert view.consented_at is not None
    assert view.access_expires_at is not None
    assert view.rotate_at is not None
    assert view.consented_at < view.rotate_at < view.access_expires_at
    assert server.owner_of(await grant.access_token()) == OWNER


async def test_twenty_refreshes_keep_the_grant_alive(server: ServerUnderTest, grant: KeptGrant) -> None:
    """Each brings another access token of the same owner; a refresh token that rotates is presented once."""
    access_tokens = {(await grant.access_token()).reveal()}
    for _ in range(REFRESHES):
        view = await grant.refresh_as_due()
        assert (view.state, view.last_error) == (GrantState.ACTIVE, None)
        access_tokens.add((await grant.access_token()).reveal())

    assert len(access_tokens) == REFRESHES + 1
    assert server.owner_of(await grant.access_token()) == OWNER
    spent = await value(grant.container, "SELECT count(DISTINCT spent_fingerprint) FROM rotations")
    rotates = grant.client.provider.rotation is Rotation.ALWAYS
    assert spent == (REFRESHES if rotates else 0), "a token that stays in use is not spent"
    assert await value(grant.container, "SELECT count(*) FROM rotations") == REFRESHES


async def test_a_wrong_secret_opens_the_breaker_and_changes_no_grant(
    server: ServerUnderTest, grant: KeptGrant, make_container: ContainerMaker
) -> None:
    """The fault is ours: nothing of the grant changes, and with the right secret it refreshes again."""
    await grant.refresh_as_due()
    before = await held(grant)
    async with make_container(server.toml, CLIENT_SECRET="not the secret") as misconfigured:
        view = await replace(grant, container=misconfigured).refresh_as_due()

    assert view.last_error_code == "invalid_client"
    assert await held(grant) == before
    [status] = await rows(grant.container, "SELECT breaker_opened_at, breaker_reason FROM client_status")
    assert (status.breaker_opened_at is not None, status.breaker_reason) == (True, "invalid_client")

    await execute(grant.container, "UPDATE client_status SET canary_at = now()")
    view = await grant.refresh_as_due()
    assert (view.state, view.last_error) == (GrantState.ACTIVE, None)
    assert await value(grant.container, "SELECT breaker_opened_at FROM client_status") is None


async def test_a_grant_that_ended_at_the_server_needs_its_owner(server: ServerUnderTest, grant: KeptGrant) -> None:
    """The first refusal is a strike, the second ends the grant, and another consent brings it back to life."""
    await grant.refresh_as_due()
    server.withdraw(await grant.refresh_token())

    struck = await grant.refresh_as_due()
    assert (struck.state, struck.strikes, struck.last_error_code) == (GrantState.ACTIVE, 1, "invalid_grant")
    ended = await grant.refresh_as_due()
    assert (ended.state, ended.state_reason) == (GrantState.RECONSENT_REQUIRED, "invalid_grant")

    again = await consent(grant.container)
    assert (again.grant_id, again.arrival) == (grant.id, Arrival.REVIVED)
    assert (await grant.refresh_as_due()).state is GrantState.ACTIVE
    assert server.owner_of(await grant.access_token()) == OWNER


async def test_a_refresh_token_is_given_back_where_the_server_takes_it(grant: KeptGrant) -> None:
    """Revocation ends the grant at a server that has an endpoint for it, and elsewhere does not happen."""
    given_back = await grant.refresh_token()
    taken = await grant.container.rotation.token_tools.revoke(grant.client, given_back)

    assert taken == (grant.client.provider.revocation_endpoint is not None)
    outcome = await grant.present(given_back)
    if taken:
        assert refusal(outcome) == (400, "invalid_grant")
    else:
        assert isinstance(outcome, Rotated)


async def test_reuse_of_a_refresh_token_is_answered_as_the_facts_say(server: ServerUnderTest, grant: KeptGrant) -> None:
    """An old refresh token is refused or answered by the configured facts, and what becomes of the newest is seen."""
    old = await grant.refresh_token()
    await grant.refresh_as_due()
    newest = await grant.refresh_token()
    facts = grant.client.provider.facts
    assert (old == newest) == (facts.rotation is Rotation.NEVER)

    outcome = await grant.present(old)

    if facts.old_token is OldToken.INVALIDATED:
        assert refusal(outcome) == (400, "invalid_grant")
    else:
        assert isinstance(outcome, Rotated)
        assert outcome.tokens.refresh_token in {None, newest}
    view = await grant.refresh_as_due()
    if server.setting.reuse_ends_grant:
        assert (view.state, view.strikes, view.last_error_code) == (GrantState.ACTIVE, 1, "invalid_grant")
        view = await grant.refresh_as_due()
        assert (view.state, view.state_reason) == (GrantState.RECONSENT_REQUIRED, "invalid_grant")
    else:
        assert (view.state, view.last_error) == (GrantState.ACTIVE, None)
