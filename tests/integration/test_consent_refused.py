"""Consents that come to nothing: what the owner is told, and that nothing is stored, not even half."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest

from tests.conftest import ContainerMaker, WebMaker
from tests.support.consenting import Browser, browser, expect_callback, query_of
from tests.support.database import execute, rows, value
from tests.support.running_web import RunningWeb
from tests.support.sandbox_clients import SandboxClient, register
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import until
from worker.bootstrap import Container
from worker.sandbox.families import FamilyStatus
from worker.sandbox.misbehaviour import Misbehaviour, Order, Step
from worker.sandbox.profiles import RFC6749
from worker.sandbox.server import RunningSandbox

pytestmark = pytest.mark.anyio

PATIENCE = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One client, the web application, an owner's browser, and a container to look into the database."""

    sandbox: RunningSandbox
    client: SandboxClient
    web: RunningWeb
    owner: Browser
    container: Container

    def begin(self) -> str:
        """Open /connect and return the authorization URL."""
        return self.owner.connect(self.client.name, "customer-42")

    async def expect_nothing_stored(self, *, exchanged: int = 0) -> None:
        """Check that no grant came of it, nor anything that belongs to one."""
        for table in ("grants", "rotations", "events"):
            assert await rows(self.container, f"SELECT * FROM {table}") == [], table
        assert self.sandbox.control.report().codes_exchanged == exchanged


@pytest.fixture
def client(sandbox: RunningSandbox) -> SandboxClient:
    """Register the client that most of these tests use."""
    return register(sandbox)


@pytest.fixture
def web(client: SandboxClient, sandbox: RunningSandbox, make_web: WebMaker) -> Iterator[RunningWeb]:
    """Serve the web application."""
    with make_web(client.toml, **client.environment) as running:
        expect_callback(sandbox, client, running.url)
        yield running


@pytest.fixture
async def scene(
    sandbox: RunningSandbox, client: SandboxClient, web: RunningWeb, make_container: ContainerMaker
) -> AsyncIterator[Scene]:
    """Set everything up."""
    async with make_container(client.toml, **client.environment) as container:
        with browser(web) as owner:
            yield Scene(sandbox=sandbox, client=client, web=web, owner=owner, container=container)


@pytest.mark.parametrize("has_cookie_of_its_own", [False, True], ids=["no-cookie", "another-cookie"])
async def test_a_state_of_another_browser_is_refused_and_stays_good(
    scene: Scene, *, has_cookie_of_its_own: bool
) -> None:
    """Somebody else's browser gets nowhere with a passed-on link, and takes nothing from whom it belongs to."""
    returned = scene.owner.allow(scene.begin())
    with browser(scene.web) as victim:
        if has_cookie_of_its_own:
            victim.connect(scene.client.name, "customer-7")
        page = victim.call_back(returned)

    assert (page.status_code, "Not started in this browser" in page.text) == (400, True)
    await scene.expect_nothing_stored()
    assert scene.owner.call_back(returned).status_code == 200


async def test_a_state_is_good_once(scene: Scene) -> None:
    """The same answer brought twice changes nothing, and its code is not sent again, which would end the grant."""
    returned = scene.owner.allow(scene.begin())
    assert scene.owner.call_back(returned).status_code == 200
    before = await rows(scene.container, "SELECT * FROM grants")

    page = scene.owner.call_back(returned)

    assert (page.status_code, "Connected already" in page.text) == (400, True)
    assert await rows(scene.container, "SELECT * FROM grants") == before
    assert scene.sandbox.control.report().codes_exchanged == 1
    [family] = scene.sandbox.control.families(scene.client.name)
    assert family.status is FamilyStatus.ALIVE


async def test_a_state_is_good_once_for_two_at_once(scene: Scene) -> None:
    """Of callbacks that have all found the same state unused, one connects, and the code is exchanged once."""
    returned = scene.owner.allow(scene.begin())
    waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with scene.container.engine.connect() as holder:
        await holder.exec_driver_sql("SELECT * FROM authorization_requests FOR UPDATE")
        brought = [asyncio.create_task(asyncio.to_thread(scene.owner.call_back, returned)) for _ in range(3)]
        await until(lambda: rows(scene.container, f"{waiting} OFFSET 2"), PATIENCE, "all three are about to use it")
        await holder.rollback()

    pages = await asyncio.gather(*brought)

    assert sorted(page.status_code for page in pages) == [200, 400, 400]
    assert all("Connected" in page.text for page in pages), "whichever of them the browser shows"
    assert scene.sandbox.control.report().codes_exchanged == 1
    assert await value(scene.container, "SELECT generation FROM grants WHERE state = 'active'") == 0


async def test_a_state_expires(scene: Scene) -> None:
    """An answer that comes after the request's time is refused."""
    returned = scene.owner.allow(scene.begin())
    await execute(scene.container, "UPDATE authorization_requests SET expires_at = now()")

    page = scene.owner.call_back(returned)

    assert (page.status_code, "took too long" in page.text) == (400, True)
    await scene.expect_nothing_stored()


async def test_an_unknown_state_is_refused(scene: Scene) -> None:
    """A state that was never made here is refused, and its code goes nowhere."""
    returned = scene.owner.allow(scene.begin())

    page = scene.owner.call_back({**returned, "state": "x" * 43})

    assert (page.status_code, "do not know this request" in page.text) == (400, True)
    await scene.expect_nothing_stored()


async def test_a_malformed_answer_uses_nothing(scene: Scene) -> None:
    """A parameter that is missing, doubled or far too long ends there; the proper answer is still good."""
    returned = scene.owner.allow(scene.begin())
    state, code = ("state", returned["state"]), ("code", returned["code"])
    malformed = [
        ([code], "state is missing"),
        ([("state", ""), code], "state is missing"),
        ([state], "either code or error"),
        ([state, code, ("error", "access_denied")], "either code or error"),
        ([state, code, ("code", "another")], "a parameter stands twice"),
        ([state, code, state], "a parameter stands twice"),
        ([state, code, ("more", "x" * 4097)], "a parameter is too long"),
    ]

    for parameters, said in malformed:
        page = scene.owner.call_back(parameters)
        assert (page.status_code, said in page.text) == (400, True), parameters
    await scene.expect_nothing_stored()
    assert scene.owner.call_back(returned).status_code == 200


async def test_a_denial_is_said_and_ends_the_request(scene: Scene) -> None:
    """An owner who denies reads that nothing was stored, and the state is used."""
    returned = scene.owner.deny(scene.begin())
    assert returned["error"] == "access_denied"

    page = scene.owner.call_back(returned)

    assert (page.status_code, "You chose not to authorize" in page.text) == (403, True)
    await scene.expect_nothing_stored()
    assert "Already used" in scene.owner.call_back(returned).text


async def test_an_error_of_the_provider_is_shown_escaped(scene: Scene) -> None:
    """Whatever a provider puts into `error`, the page shows it harmlessly and nothing is stored."""
    shown = {
        "server_error": "“server_error”",
        "<script>alert(1)</script>": "“&lt;script&gt;alert(1)&lt;/script&gt;”",
        "Zugriff für niemanden": "“unreadable_error”",
        "x" * 65: "“unreadable_error”",
    }

    for error, said in shown.items():
        state = query_of(scene.begin())["state"]
        page = scene.owner.call_back({"error": error, "state": state, "error_description": "<b>details</b>"})
        assert (page.status_code, said in page.text) == (502, True), error
        assert "<script>alert" not in page.text
        assert "details" not in page.text
    await scene.expect_nothing_stored()


async def test_a_wrong_code_brings_nothing(scene: Scene) -> None:
    """A code that the provider does not know is its refusal of the exchange."""
    returned = scene.owner.allow(scene.begin())

    page = scene.owner.call_back({**returned, "code": "guessed"})

    assert (page.status_code, "did not accept the code" in page.text) == (502, True)
    await scene.expect_nothing_stored()


async def test_an_exchange_without_both_tokens_stores_nothing(scene: Scene) -> None:
    """An answer that is lost, cut, refused or lacks the refresh token leaves no grant behind; a new consent works."""
    faults = {
        Order(kind=Misbehaviour.LOST_REPLY, times=1, step=Step.CODE_EXCHANGE): "could not be read",
        Order(kind=Misbehaviour.CUT_REPLY, times=1, step=Step.CODE_EXCHANGE): "could not be read",
        Order(kind=Misbehaviour.TRUNCATED_JSON, times=1, step=Step.CODE_EXCHANGE): "could not be read",
        Order(kind=Misbehaviour.THROTTLED, times=1, step=Step.CODE_EXCHANGE): "asks us to slow down",
        Order(
            kind=Misbehaviour.OMITTED_REFRESH_TOKEN, times=1, step=Step.CODE_EXCHANGE, after_rotating=True
        ): "gave no refresh token",
    }

    for order, said in faults.items():
        scene.sandbox.control.order(order)
        page = scene.owner.consent(scene.client.name, "customer-42")
        assert (page.status_code, said in page.text) == (502, True), order
    await scene.expect_nothing_stored(exchanged=len(faults) - 1)
    used = "SELECT count(*) FROM authorization_requests WHERE used_at IS NOT NULL"
    assert await value(scene.container, used) == len(faults)
    assert scene.owner.consent(scene.client.name, "customer-42").status_code == 200


async def test_a_registration_that_the_provider_refuses_is_named(
    sandbox: RunningSandbox, make_web: WebMaker, make_container: ContainerMaker
) -> None:
    """With a wrong client secret the owner is told who can help, and nothing is stored."""
    client = register(sandbox, secret="another secret")
    async with make_container(client.toml, **client.environment) as container:
        with make_web(client.toml, **client.environment) as web, browser(web) as owner:
            expect_callback(sandbox, client, web.url)
            page = owner.consent(client.name, "customer-42")

        assert (page.status_code, "does not accept our registration" in page.text) == (502, True)
        assert await rows(container, "SELECT * FROM grants") == []


async def test_an_answer_of_another_issuer_is_refused(
    sandbox: RunningSandbox, make_web: WebMaker, make_container: ContainerMaker
) -> None:
    """With `iss` of another server the code is not sent anywhere (RFC 9207); with the right one it is exchanged."""
    client = register(sandbox, name="issuer-test", profile=RFC6749, provider=f'issuer = "{sandbox.url}/rfc6749"')
    async with make_container(client.toml, **client.environment) as container:
        with make_web(client.toml, **client.environment) as web, browser(web) as owner:
            expect_callback(sandbox, client, web.url)
            returned = owner.allow(owner.connect(client.name, "customer-42"))
            page = owner.call_back({**returned, "iss": "https://attacker.example"})

            assert (page.status_code, "Wrong provider" in page.text) == (400, True)
            assert await rows(container, "SELECT * FROM grants") == []
            assert sandbox.control.report().codes_exchanged == 0
            assert owner.consent(client.name, "customer-42").status_code == 200


async def test_a_client_that_is_gone_meanwhile_is_a_page(scene: Scene, make_web: WebMaker) -> None:
    """Where the client was taken out of the configuration between the two steps, the owner reads so."""
    returned = scene.owner.allow(scene.begin())
    mark = scene.owner.http.cookies["evergrant_browser"]

    with make_web("") as without, browser(without) as owner:
        page = owner.http.get("/oauth/callback", params=returned, headers={"cookie": f"evergrant_browser={mark}"})

    assert (page.status_code, "No such client" in page.text) == (404, True)
    await scene.expect_nothing_stored()


def test_a_database_that_is_away_is_a_page(
    sandbox: RunningSandbox, make_web: WebMaker, client: SandboxClient, database_url: str
) -> None:
    """While the database is away both steps say so, without using up the state."""
    with (
        TcpProxy(database_url) as database,
        make_web(client.toml, database=database.url, **client.environment) as web,
        browser(web) as owner,
    ):
        expect_callback(sandbox, client, web.url)
        returned = owner.allow(owner.connect(client.name, "customer-42"))
        database.refuse()

        refused = owner.http.get(f"/connect/{client.name}", params={"subject": "customer-42"})
        page = owner.call_back(returned)
        database.accept()

        assert (refused.status_code, page.status_code) == (503, 503)
        assert "try again" in refused.text
        assert "try again" in page.text
        assert owner.call_back(returned).status_code == 200
