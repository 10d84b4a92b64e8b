"""The consent, step by step as Askara's guide has it, over real HTTP with the sandbox at the other end."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from uuid import uuid4

import httpx
import pytest

from tests.conftest import ContainerMaker, WebMaker
from tests.support.consenting import browser, expect_callback, query_of
from tests.support.database import everything_in, rows, value
from tests.support.running_web import RunningWeb
from tests.support.sandbox_clients import SandboxClient, make_due, register
from tests.support.settling import drain
from worker.bootstrap import Container
from worker.domain.errors import BrokenSealError
from worker.domain.grant import GrantState
from worker.oauth.authorization_request import s256
from worker.sandbox.profiles import RFC6749
from worker.sandbox.server import RunningSandbox
from worker.storage.grants import GrantView
from worker.storage.sealing import CODE_VERIFIER
from worker.usecases.access_token import FreshToken

pytestmark = pytest.mark.anyio

PUBLIC = "https://tokens.example"


async def only_grant(container: Container) -> GrantView:
    """Return the grant, of which there must be one."""
    [view] = await container.grants.list(client=None, state=None, after=None, limit=10)
    return view


async def fresh_token(container: Container, view: GrantView) -> FreshToken:
    """Return the grant's access token, which must be there."""
    found = await container.access_tokens.fresh(view.id, timedelta(seconds=60))
    assert isinstance(found, FreshToken)
    return found


def test_step_1_sends_exactly_the_documented_parameters(sandbox: RunningSandbox, make_web: WebMaker) -> None:
    """/connect leads to the authorization endpoint with the guide's five parameters, and spaces as %20."""
    client = register(sandbox)
    with make_web(client.toml, **client.environment) as web, browser(web) as owner:
        location = owner.connect(client.name, "customer-42")

        endpoint, _, query = location.partition("?")
        assert endpoint == f"{sandbox.url}/askara/authorize"
        assert [pair.partition("=")[0] for pair in query.split("&")] == [
            "response_type",
            "client_id",
            "redirect_uri",
            "scope",
            "state",
        ]
        assert "scope=profile%20organization" in query
        asked = query_of(location)
        assert asked["response_type"] == "code"
        assert asked["client_id"] == client.name
        assert asked["redirect_uri"] == f"{web.url}/oauth/callback"


async def test_step_1_keeps_only_the_hash_of_a_random_state(
    sandbox: RunningSandbox, make_web: WebMaker, make_container: ContainerMaker
) -> None:
    """Each state is new, has 256 bits, and stands in the database as its SHA-256 only, as does the browser's mark."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        with make_web(client.toml, **client.environment) as web, browser(web) as owner:
            states = [query_of(owner.connect(client.name, "customer-42"))["state"] for _ in range(3)]
            mark = owner.http.cookies["evergrant_browser"]

        assert len(set(states)) == 3
        assert {len(state) for state in states} == {43}
        stored = await everything_in(container, "authorization_requests")
        for secret in (*states, mark):
            assert secret not in stored
            assert secret.encode().hex() not in stored
            assert hashlib.sha256(secret.encode()).hexdigest() in stored


async def test_steps_2_to_4_store_a_grant_that_is_kept_alive(
    sandbox: RunningSandbox, make_web: WebMaker, make_container: ContainerMaker
) -> None:
    """The callback stores the grant; when it is due it rotates, with the refresh token that the consent brought."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        with make_web(client.toml, **client.environment) as web, browser(web) as owner:
            expect_callback(sandbox, client, web.url)
            page = owner.call_back(owner.allow(owner.connect(client.name, "customer-42", email="ada@example.com")))

        assert (page.status_code, "Connected" in page.text) == (200, True)
        assert page.headers["cache-control"] == "no-store"
        assert page.headers["referrer-policy"] == "no-referrer"
        view = await only_grant(container)
        assert (view.client, view.subject, view.email) == (client.name, "customer-42", "ada@example.com")
        assert (view.state, view.generation) == (GrantState.ACTIVE, 0)
        assert view.scopes == ("profile", "organization")
        assert view.consented_at is not None
        assert view.rotate_at is not None
        assert view.access_expires_at == view.consented_at + timedelta(days=1)
        assert view.rotate_at < view.access_expires_at
        consented = await fresh_token(container, view)
        assert sandbox.control.account_of(consented.access_token) == "ada@example.com"
        assert consented.access_token.reveal().encode().hex() not in await everything_in(container, "grants")
        assert [row.type for row in await rows(container, "SELECT type FROM events")] == ["grant.created"]

        assert await drain(container, client) == 0, "nothing is due yet"
        await make_due(container)
        assert await drain(container, client) == 1

        rotated = await only_grant(container)
        assert (rotated.id, rotated.state, rotated.generation) == (view.id, GrantState.ACTIVE, 1)
        refreshed = await fresh_token(container, rotated)
        assert refreshed.access_token != consented.access_token
        assert sandbox.control.account_of(refreshed.access_token) == "ada@example.com"
    report = sandbox.control.report()
    assert (report.codes_exchanged, report.rotations, report.presented_more_than_once) == (1, 1, 0)


async def test_pkce_is_sent_where_the_provider_takes_it_and_its_verifier_is_sealed(
    sandbox: RunningSandbox, make_web: WebMaker, make_container: ContainerMaker
) -> None:
    """The S256 challenge goes along, the verifier lies sealed for its row alone, and the exchange succeeds with it."""
    client = register(sandbox, name="pkce-test", profile=RFC6749)
    async with make_container(client.toml, **client.environment) as container:
        with make_web(client.toml, **client.environment) as web, browser(web) as owner:
            expect_callback(sandbox, client, web.url)
            location = owner.connect(client.name, "customer-42")
            asked = query_of(location)
            [stored] = await rows(container, "SELECT id, code_verifier FROM authorization_requests")
            keys = container.consent.requests._keys
            verifier = keys.open(stored.code_verifier, CODE_VERIFIER, stored.id)

            assert asked["code_challenge_method"] == "S256"
            assert asked["code_challenge"] == s256(verifier)
            assert verifier.reveal().encode() not in bytes(stored.code_verifier)
            with pytest.raises(BrokenSealError):
                keys.open(stored.code_verifier, CODE_VERIFIER, uuid4())

            returned = owner.allow(location)
            assert returned["iss"] == f"{sandbox.url}/rfc6749"
            assert owner.call_back(returned).status_code == 200
        view = await only_grant(container)
        assert sandbox.control.account_of((await fresh_token(container, view)).access_token) == "ada@example.com"


async def test_one_browser_may_have_two_consents_under_way(
    sandbox: RunningSandbox, make_web: WebMaker, make_container: ContainerMaker
) -> None:
    """A second tab leaves the first one's request good, in whatever order the two are finished."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        with make_web(client.toml, **client.environment) as web, browser(web) as owner:
            expect_callback(sandbox, client, web.url)
            locations = [owner.connect(client.name, subject) for subject in ("customer-1", "customer-2")]
            pages = [owner.call_back(owner.allow(location)) for location in reversed(locations)]

        assert [page.status_code for page in pages] == [200, 200]
        assert await value(container, "SELECT count(*) FROM grants WHERE state = 'active'") == 2


async def test_a_consent_for_nobody_is_not_begun(
    sandbox: RunningSandbox, make_web: WebMaker, make_container: ContainerMaker
) -> None:
    """Without a proper subject nothing is remembered and the owner goes nowhere."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        with make_web(client.toml, **client.environment) as web, browser(web) as owner:
            for query in ("", "?subject=", f"?subject={'x' * 201}", "?subject=two%0Alines"):
                answer = owner.http.get(f"/connect/{client.name}{query}")
                assert (answer.status_code, "subject=" in answer.text) == (400, True), query
            too_long = owner.http.get(f"/connect/{client.name}?subject=customer-42&email={'x' * 255}")

        assert (too_long.status_code, "email" in too_long.text) == (422, True)
        assert await value(container, "SELECT count(*) FROM authorization_requests") == 0


def test_a_consent_for_an_unknown_client_names_the_nearest(sandbox: RunningSandbox, make_web: WebMaker) -> None:
    """A client that is not configured is a page that says which one may have been meant."""
    client = register(sandbox)
    with make_web(client.toml, **client.environment) as web, browser(web) as owner:
        answer = owner.http.get("/connect/Askara-tset", params={"subject": "customer-42"})

    assert answer.status_code == 404
    assert "Client &#39;Askara-tset&#39; is not configured (did you mean &#39;askara-test&#39;?)." in answer.text


def cookie_of(web: RunningWeb, client: SandboxClient) -> tuple[str, dict[str, str]]:
    """Open /connect and return the cookie's name and value, and its attributes."""
    answer = httpx.get(f"{web.url}/connect/{client.name}?subject=customer-42", trust_env=False)
    [cookie] = answer.headers.get_list("set-cookie")
    pair, *attributes = cookie.split("; ")
    return pair, {name.lower(): content for name, _, content in (attribute.partition("=") for attribute in attributes)}


def test_the_cookie_on_http_is_for_this_host_and_out_of_reach_of_scripts(
    sandbox: RunningSandbox, make_web: WebMaker
) -> None:
    """Over http, on the loopback, the mark's cookie is HttpOnly and goes with the provider's redirect."""
    client = register(sandbox)
    with make_web(client.toml, **client.environment) as web:
        pair, attributes = cookie_of(web, client)

    assert pair.startswith("evergrant_browser=")
    assert attributes == {"httponly": "", "max-age": "86400", "path": "/", "samesite": "lax"}


async def test_the_cookie_on_https_is_bound_to_the_host(
    sandbox: RunningSandbox, make_web: WebMaker, make_container: ContainerMaker
) -> None:
    """Under an https public URL the cookie is Secure and `__Host-`, and the consent works behind a TLS proxy."""
    client = register(sandbox)
    expect_callback(sandbox, client, PUBLIC)
    async with make_container(client.toml, **client.environment) as container:
        with make_web(client.toml, public_url=PUBLIC, **client.environment) as web, browser(web) as owner:
            pair, attributes = cookie_of(web, client)
            assert pair.startswith("__Host-evergrant_browser=")
            assert attributes == {"httponly": "", "max-age": "86400", "path": "/", "samesite": "lax", "secure": ""}

            # The proxy takes the browser's TLS away, and the cookie that came with it along.
            owner.http.headers["cookie"] = pair
            location = owner.connect(client.name, "customer-42")
            assert query_of(location)["redirect_uri"] == f"{PUBLIC}/oauth/callback"
            assert owner.call_back(owner.allow(location)).status_code == 200
        assert (await only_grant(container)).state is GrantState.ACTIVE
