"""What an owner meets on the way: a page that says what to do next, a way to begin again, and the team's own page."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from urllib.parse import urlencode

import httpx
import pytest

from tests.conftest import ContainerMaker, WebMaker
from tests.support.consenting import Browser, browser, expect_callback, query_of
from tests.support.database import execute, value
from tests.support.running_web import RunningWeb
from tests.support.sandbox_clients import SandboxClient, register
from worker.embedded.startup import free_loopback_port
from worker.sandbox.profiles import RFC6749
from worker.sandbox.server import RunningSandbox

pytestmark = pytest.mark.anyio

DONE = "https://app.example/integrations?tab=accounts"
ELSEWHERE = "http://127.0.0.1:3000/done"
AGAIN = re.compile(r'<a class="button" href="(/connect/[^"]*)">Begin again</a>')


@pytest.fixture
def client(sandbox: RunningSandbox) -> SandboxClient:
    """Register a client whose owners may be sent on to two addresses."""
    return register(sandbox, client=f'return_urls = ["{DONE}", "{ELSEWHERE}"]')


@pytest.fixture
def web(client: SandboxClient, sandbox: RunningSandbox, make_web: WebMaker) -> Iterator[RunningWeb]:
    """Serve the web application."""
    with make_web(client.toml, **client.environment) as running:
        expect_callback(sandbox, client, running.url)
        yield running


@pytest.fixture
def owner(web: RunningWeb) -> Iterator[Browser]:
    """Open a browser."""
    with browser(web) as opened:
        yield opened


def begin_again(page: httpx.Response) -> str | None:
    """Return where a page's button leads that begins again, if it has one."""
    found = AGAIN.search(page.text)
    return html.unescape(found[1]) if found is not None else None


def connect(client: SandboxClient, owner: Browser, **more: str) -> dict[str, str]:
    """Authorize, and return the parameters with which the provider sends the browser back."""
    return owner.allow(owner.connect(client.name, "customer-42", **more))


def test_an_owner_goes_on_to_the_teams_own_page(client: SandboxClient, owner: Browser) -> None:
    """After consent the browser is sent on, to the first address or to the one that was asked for, and told so."""
    for asked, address in (({}, DONE), ({"return_to": DONE}, DONE), ({"return_to": ELSEWHERE}, ELSEWHERE)):
        answer = owner.call_back(connect(client, owner, **asked))

        assert answer.status_code == 303
        told = query_of(answer.headers["location"])
        grant = told.pop("grant")
        assert answer.headers["location"].startswith(address)
        assert told | {"tab": "accounts"} == {
            "client": client.name,
            "subject": "customer-42",
            "outcome": "connected",
            "tab": "accounts",
        }
        assert len(grant) == 36


def test_a_denial_is_told_to_the_teams_page_too(client: SandboxClient, owner: Browser) -> None:
    """The team's application learns that its owner said no, and of no grant."""
    answer = owner.call_back(owner.deny(owner.connect(client.name, "customer-42", return_to=ELSEWHERE)))

    assert answer.status_code == 303
    told = {"client": client.name, "subject": "customer-42", "outcome": "denied"}
    assert answer.headers["location"] == f"{ELSEWHERE}?{urlencode(told)}"


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example/",
        f"{DONE}&more=1",
        DONE.removesuffix("?tab=accounts"),
        DONE.upper(),
        "https://app.example.evil.example/integrations?tab=accounts",
        "https://app.example@evil.example/integrations?tab=accounts",
        "//evil.example",
        "/",
        "",
        "javascript:alert(1)",
    ],
)
async def test_nobody_is_sent_to_an_address_that_is_not_listed(
    client: SandboxClient, owner: Browser, make_container: ContainerMaker, address: str
) -> None:
    """Letter by letter, or not at all: nothing is begun, and the page says which key is meant."""
    answer = owner.http.get(f"/connect/{client.name}", params={"subject": "customer-42", "return_to": address})

    assert (answer.status_code, "return_urls" in answer.text) == (400, True)
    async with make_container(client.toml, **client.environment) as container:
        assert await value(container, "SELECT count(*) FROM authorization_requests") == 0


async def test_an_address_that_is_not_listed_any_more_is_forgotten(
    client: SandboxClient, owner: Browser, make_container: ContainerMaker
) -> None:
    """What stands in the row is held against the configuration once more: no row can send anybody anywhere."""
    returned = connect(client, owner)
    async with make_container(client.toml, **client.environment) as container:
        await execute(container, "UPDATE authorization_requests SET return_to = 'https://evil.example/'")

    page = owner.call_back(returned)

    assert (page.status_code, "Connected" in page.text, "evil" in page.text) == (200, True, False)


def test_whatever_failed_leads_back_and_can_be_begun_again(client: SandboxClient, owner: Browser) -> None:
    """A page after a failure has both: the button begins the same again, the link goes back to the team."""
    state = query_of(owner.connect(client.name, "customer 42 & son", return_to=ELSEWHERE, email="a@example.com"))[
        "state"
    ]
    page = owner.call_back({"error": "temporarily_unavailable", "state": state})

    assert (page.status_code, "temporarily_unavailable" in page.text) == (502, True)
    assert f'<a href="{ELSEWHERE}">Go back to 127.0.0.1</a>' in page.text
    again = begin_again(page)
    assert again is not None
    sent = {"subject": "customer 42 & son", "email": "a@example.com", "return_to": ELSEWHERE}
    assert query_of(again) == sent
    assert owner.http.get(again).status_code == 302


def test_an_error_of_our_own_is_not_begun_again(client: SandboxClient, owner: Browser) -> None:
    """To begin again would not help where the provider does not accept what we ask for: others have to act."""
    for error in ("invalid_scope", "unauthorized_client", "invalid_request"):
        state = query_of(owner.connect(client.name, "customer-42"))["state"]
        page = owner.call_back({"error": error, "state": state})

        assert (page.status_code, "Tell whoever runs this service" in page.text) == (502, True), error
        assert begin_again(page) is None


def test_an_error_that_belongs_to_nothing_is_said(owner: Browser) -> None:
    """Some providers leave out the state with an error; the page shows the error's code and no more."""
    page = owner.call_back({"error": "invalid_request", "error_description": "<b>details</b>"})

    assert (page.status_code, "“invalid_request”" in page.text, "details" in page.text) == (400, True, False)


@pytest.mark.parametrize("is_denied", [False, True])
def test_the_back_button_says_what_came_of_it(client: SandboxClient, owner: Browser, is_denied: bool) -> None:
    """The same answer once more is refused, and the owner reads what the first time led to."""
    location = owner.connect(client.name, "customer-42")
    returned = owner.deny(location) if is_denied else owner.allow(location)
    assert owner.call_back(returned).status_code == 303

    page = owner.call_back(returned)

    assert page.status_code == 400
    if is_denied:
        assert "You chose not to authorize then" in page.text
        assert begin_again(page) is not None
    else:
        assert "it connected customer-42" in page.text
        assert begin_again(page) is None


async def test_who_comes_too_late_may_begin_again_in_the_same_browser(
    client: SandboxClient, web: RunningWeb, owner: Browser, make_container: ContainerMaker
) -> None:
    """The browser that asked is led back to the start; another one is told no names."""
    returned = connect(client, owner)
    async with make_container(client.toml, **client.environment) as container:
        await execute(container, "UPDATE authorization_requests SET expires_at = now()")

    page = owner.call_back(returned)
    with browser(web) as stranger:
        other = stranger.call_back(returned)

    assert (page.status_code, other.status_code) == (400, 400)
    assert "took too long" in page.text
    assert "took too long" in other.text
    assert begin_again(page) is not None
    assert "/connect/" not in other.text


def test_a_browser_without_cookies_reads_what_is_wrong(client: SandboxClient, web: RunningWeb, owner: Browser) -> None:
    """No cookie at all is another matter than a cookie of another browser, and neither page tells a name."""
    returned = connect(client, owner)
    with browser(web) as blocking, browser(web) as another:
        another.connect(client.name, "customer-7")
        pages = [blocking.call_back(returned), another.call_back(returned)]

    assert [page.status_code for page in pages] == [400, 400]
    assert "Allow cookies" in pages[0].text
    assert "started in another browser" in pages[1].text
    assert not any("customer" in page.text for page in pages)


def test_a_provider_that_cannot_be_reached_is_said(sandbox: RunningSandbox, make_web: WebMaker) -> None:
    """Nothing was sent: the owner may begin again in a moment."""
    client = register(sandbox, token_endpoint_at=f"http://127.0.0.1:{free_loopback_port()}")
    with make_web(client.toml, **client.environment) as web, browser(web) as owner:
        expect_callback(sandbox, client, web.url)
        page = owner.consent(client.name, "customer-42")

    assert (page.status_code, "could not be reached" in page.text) == (502, True)
    assert begin_again(page) is not None


def test_an_issuer_that_was_promised_must_be_there(sandbox: RunningSandbox, make_web: WebMaker) -> None:
    """Where the provider's facts say that each redirect carries `iss`, one without is another server's (RFC 9207)."""
    facts = f'issuer = "{sandbox.url}/rfc6749"\nauthorization_response_iss_parameter_supported = true'
    client = register(sandbox, name="promising", profile=RFC6749, provider=facts)
    with make_web(client.toml, **client.environment) as web, browser(web) as owner:
        expect_callback(sandbox, client, web.url)
        returned = connect(client, owner)
        stripped = {name: found for name, found in returned.items() if name != "iss"}
        page = owner.call_back(stripped)

        assert (page.status_code, "Wrong provider" in page.text) == (400, True)
        assert sandbox.control.report().codes_exchanged == 0
        assert owner.consent(client.name, "customer-42").status_code == 200
