"""Signing in at a real OpenID provider: groups become roles, and whatever does not belong together is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest

from tests.authorization_servers.oidc_provider import ClientRegistration, OidcProvider, walk_consent
from tests.conftest import WebMaker
from tests.support.database import rows
from tests.support.running_web import RunningWeb
from worker.domain.secret import Secret
from worker.supervisor import free_port

pytestmark = pytest.mark.node

SECRET: Final = "not url-safe: 100 % + more"
GROUPS: Final = {"ada": ["everybody", "platform"], "grace": ["everybody"], "eve": ["elsewhere"]}
CLIENT: Final = """
[providers.acme]
authorization_endpoint = "https://login.acme.example/authorize"
token_endpoint = "https://api.acme.example/token"

[clients.acme-main]
provider = "acme"
client_id = "acme"
client_secret = "env:SIGN_IN_SECRET"
"""


@pytest.fixture(scope="module")
def port() -> int:
    """Choose where the web process listens: the provider must know its callback beforehand."""
    return free_port()


@pytest.fixture(scope="module")
def provider(oidc_provider_installed: Path, port: int) -> Iterator[OidcProvider]:
    """Run an OpenID provider that knows three people and their groups."""
    del oidc_provider_installed
    console = ClientRegistration(
        client_id="evergrant-console",
        client_secret=Secret(SECRET),
        redirect_uris=(f"http://127.0.0.1:{port}/sign-in/callback",),
        scope="openid profile",
    )
    with OidcProvider(clients=[console], groups=GROUPS) as running:
        yield running


def toml(issuer: str) -> str:
    """Write a configuration that signs people in at an issuer."""
    return f"""{CLIENT}
[sign_in]
issuer = "{issuer}"
client_id = "evergrant-console"
client_secret = "env:SIGN_IN_SECRET"
display_name = "Acme"
scopes = ["openid", "profile"]

[[sign_in.groups]]
group = "platform"
role = "admin"

[[sign_in.groups]]
group = "everybody"
role = "reader"
client = "acme-main"
"""


@pytest.fixture
def web(make_web: WebMaker, provider: OidcProvider, port: int) -> Iterator[RunningWeb]:
    """Serve an installation whose people sign in at the provider."""
    with make_web(toml(provider.issuer), port=port, SIGN_IN_SECRET=SECRET) as running:
        yield running


@pytest.fixture
def browser(web: RunningWeb) -> Iterator[httpx.Client]:
    """Give a browser-like client that has not signed in."""
    with httpx.Client(base_url=web.url, trust_env=False, timeout=30) as client:
        yield client


def come_back(browser: httpx.Client, login: str, return_to: str = "/") -> str:
    """Begin at our page, sign in at the provider, and return where it sends the browser."""
    start = browser.get("/sign-in/start", params={"return_to": return_to})
    assert start.status_code == 302, start.text
    with httpx.Client(trust_env=False, timeout=30) as at_provider:
        return walk_consent(at_provider, start.headers["location"], login)


def test_groups_become_roles(web: RunningWeb, browser: httpx.Client) -> None:
    """Whoever has the group of an entry gets its role and client, and goes on to what they wanted to see."""
    asked = browser.get("/sign-in", params={"return_to": "/overview?x=1"})
    assert "Sign in with Acme" in asked.text
    back = browser.get(come_back(browser, "ada", "/overview?x=1"))
    assert (back.status_code, back.headers["location"]) == (303, "/overview?x=1")
    assert ">ada<" in browser.get("/").text

    with httpx.Client(base_url=web.url, trust_env=False, timeout=30) as other:
        other.get(come_back(other, "grace"))
        assert "reader of acme-main" in other.get("/").text
    found = web.run(rows(web.container, "SELECT issuer, subject, role, client FROM sessions ORDER BY subject"))
    issuer = web.container.configuration.sign_in.issuer  # type: ignore[union-attr]
    assert [tuple(row) for row in found] == [(issuer, "ada", "admin", None), (issuer, "grace", "reader", "acme-main")]


def test_who_has_no_group_of_ours_stays_outside(web: RunningWeb, browser: httpx.Client) -> None:
    """The provider knows them and we do not: they are told so, no session begins, and it is written down."""
    back = browser.get(come_back(browser, "eve"))
    assert (back.status_code, "none of your groups has a role" in back.text) == (403, True)
    assert browser.get("/").headers["location"] == "/sign-in"
    found = web.run(rows(web.container, "SELECT act, outcome, actor, details ->> 'subject' FROM audit_log"))
    assert [tuple(row) for row in found] == [("sign_in", "refused", "eve", "eve")]


def test_a_name_reaches_no_terminal_as_it_was_written(web: RunningWeb, browser: httpx.Client) -> None:
    """What the provider calls somebody is shown by `evergrant audit`: signs that move a cursor are not kept."""
    assert browser.get(come_back(browser, "e\x1b[2Jve")).status_code == 403
    found = web.run(rows(web.container, "SELECT actor, details ->> 'subject' FROM audit_log"))
    assert [tuple(row) for row in found] == [("e?[2Jve", "e?[2Jve")]


def test_the_request_asks_for_all_that_guards_it(browser: httpx.Client) -> None:
    """State, nonce and a code challenge are there, new each time; their secrets are not in the address."""
    first, second = (parse_qs(urlsplit(browser.get("/sign-in/start").headers["location"]).query) for _ in range(2))
    assert first["code_challenge_method"] == ["S256"]
    for name in ("state", "nonce", "code_challenge"):
        assert len(first[name][0]) >= 20
        assert first[name] != second[name]
    assert "code_verifier" not in first


def test_an_answer_that_belongs_elsewhere_signs_nobody_in(web: RunningWeb, browser: httpx.Client) -> None:
    """Another browser, another state, another issuer, a repetition, a refusal, a parameter twice: no session."""
    back = come_back(browser, "ada")
    query = {name: values[0] for name, values in parse_qs(urlsplit(back).query).items()}
    begun = dict(browser.cookies)

    def answered(changed: dict[str, str | None], cookies: dict[str, str] = begun) -> httpx.Response:
        sent = {name: value for name, value in {**query, **changed}.items() if value is not None}
        return httpx.get(f"{web.url}/sign-in/callback", params=sent, cookies=cookies, trust_env=False)

    refused = {
        "another browser": answered({}, {}),
        "a cookie of nobody's": answered({}, {next(iter(begun)): "00ff"}),
        "another state": answered({"state": "x"}),
        "no state": answered({"state": None}),
        "another issuer": answered({"iss": "https://evil.example"}),
        "no issuer": answered({"iss": None}),
        "refused": answered({"code": None, "error": "access_denied", "error_description": "<script>x</script>"}),
        "twice": httpx.get(f"{web.url}/sign-in/callback?{urlencode(query)}&state=x", cookies=begun, trust_env=False),
        "another code": answered({"code": "invented"}),
    }
    for case, answer in refused.items():
        assert answer.status_code in {400, 403, 502}, case
        assert "evergrant_session" not in str(answer.headers), case
        assert "<script>" not in answer.text, case
    assert answered({}).status_code == 303
    assert answered({}).status_code == 502  # a code is good for one time


def test_an_id_token_of_another_request_is_refused(web: RunningWeb, browser: httpx.Client) -> None:
    """A code that was given for another nonce does not sign in, though all else is right."""
    flow = web.container.openid
    assert flow is not None
    back = come_back(browser, "ada")
    query = {name: values[0] for name, values in parse_qs(urlsplit(back).query).items()}
    [name] = browser.cookies
    asked = flow._asked(Secret(browser.cookies[name]))
    assert asked is not None
    swapped = replace(asked, nonce="another")
    result = web.run(flow._recognized(swapped, query["code"], web.run(flow._metadata())))
    assert getattr(result, "why", None) == "not_genuine", result


def test_a_provider_of_another_name_or_none_is_said(make_web: WebMaker, provider: OidcProvider) -> None:
    """Discovery that names another issuer, or does not answer, sends nobody anywhere."""
    address = urlsplit(provider.issuer)
    other = "localhost" if address.hostname == "127.0.0.1" else "127.0.0.1"
    for issuer in (f"http://{other}:{address.port}", f"http://127.0.0.1:{free_port()}"):
        with make_web(toml(issuer), SIGN_IN_SECRET=SECRET) as web:
            answer = httpx.get(f"{web.url}/sign-in/start", trust_env=False)
            assert (answer.status_code, "console link" in answer.text) == (502, True)


def test_what_was_made_up_is_rate_limited_and_keeps_nobody_out(web: RunningWeb, browser: httpx.Client) -> None:
    """Twenty tries a minute from one address; whoever has begun here, or holds a link of ours, is not among them."""
    back = come_back(browser, "ada")
    answers = [browser.get("/sign-in/link/x").status_code for _ in range(21)]
    assert answers == [410] * 20 + [429]
    stranger = httpx.get(f"{web.url}/sign-in/callback?code=x&state=x", trust_env=False)
    assert (stranger.status_code, stranger.headers["retry-after"]) == (429, "60")
    assert browser.get("/sign-in").status_code == 200
    assert browser.get("/sign-in/start").status_code == 302
    link = web.run(web.container.sessions.make_link(name="grace")).reveal()
    assert httpx.get(f"{web.url}/sign-in/link/{link}", trust_env=False).status_code == 303
    begun = come_back(browser, "ada")
    assert begun != back
    assert browser.get(begun).status_code == 303


def test_one_journey_is_answered_a_few_times_only(browser: httpx.Client) -> None:
    """Each answer is a request to the provider: who keeps the cookie asks it ten times a minute, no more."""
    back = come_back(browser, "ada")
    begun = dict(browser.cookies)
    made_up = re.sub("code=[^&]+", "code=made-up", back)
    answers = [httpx.get(made_up, cookies=begun, trust_env=False).status_code for _ in range(11)]
    assert answers == [502] * 10 + [429]


def test_the_cookie_of_a_journey_is_never_too_long(browser: httpx.Client) -> None:
    """The longest page that may be wanted, whatever its signs: a browser keeps the cookie, for it has 4,096 at most."""
    for sign in ("a", '"'):
        began = browser.get("/sign-in/start", params={"return_to": "/" + sign * 2047})
        assert began.status_code == 302
        assert len(began.headers["set-cookie"]) <= 4096
