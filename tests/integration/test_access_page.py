"""The page "Access": API tokens made and revoked, sessions ended, the audit log read; each within one's own client."""

from __future__ import annotations

import re
from collections.abc import Iterator
from uuid import UUID

import httpx
import pytest

from tests.conftest import WebMaker
from tests.support.api import make_token
from tests.support.database import everything_in, value
from tests.support.running_web import RunningWeb
from tests.support.signing_in import signed_in
from worker.domain.audit import Act
from worker.domain.roles import CallerKind, Role
from worker.web.console.audit_page import ACTS, KINDS

CLIENTS = """
[providers.acme]
authorization_endpoint = "https://login.acme.example/authorize"
token_endpoint = "https://api.acme.example/token"
client_auth = "none"

[clients.ours]
provider = "acme"
client_id = "ours"

[clients.foreign]
provider = "acme"
client_id = "foreign"
"""
FORM = {"name": "billing", "role": "reader", "client": "", "life": "30d"}
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def web(make_web: WebMaker) -> Iterator[RunningWeb]:
    """Serve an installation with two clients."""
    with make_web(CLIENTS) as running:
        yield running


def only_id(web: RunningWeb, table: str) -> UUID:
    """Return the id of a table's one row."""
    found: UUID = web.run(value(web.container, f"SELECT id FROM {table}"))
    return found


def test_a_token_is_made_shown_once_used_and_revoked(web: RunningWeb) -> None:
    """It is on the answer to the form and on no later page, works with its role, and ends when it is revoked."""
    with signed_in(web) as http:
        made = http.post("/access/tokens", data=FORM)
        [token] = re.findall(r"evg_[\w-]{43}", made.text)
        assert token not in http.get("/access").text
        assert http.get("/access/tokens").headers["location"] == "/access"
        program = {"Authorization": f"Bearer {token}"}
        assert httpx.get(f"{web.url}/v1/clients", headers=program, trust_env=False).status_code == 200
        assert ">billing<" in http.get("/access").text

        revoked = http.post(f"/access/tokens/{only_id(web, 'api_tokens')}/revoke")
        assert (revoked.status_code, revoked.headers["location"]) == (303, "/access?said=token_revoked")
        assert ">billing<" not in http.get("/access").text
        assert ">billing<" in http.get("/access?ended=true").text
        assert http.post(f"/access/tokens/{only_id(web, 'api_tokens')}/revoke").status_code == 404
        log = http.get("/access/audit").text
        assert "made an API token" in log
        assert "revoked an API token" in log
    assert token not in web.run(everything_in(web.container, "audit_log"))


def test_what_makes_no_token_is_said(web: RunningWeb) -> None:
    """A name, a role, an end and a client that are none make no token."""
    with signed_in(web) as http:
        for wrong in ({"name": ""}, {"name": "a\u0007"}, {"role": "root"}, {"life": "1s"}, {"client": "nobody"}):
            assert http.post("/access/tokens", data={**FORM, **wrong}).status_code in {404, 422}, wrong
    assert web.run(value(web.container, "SELECT count(*) FROM api_tokens")) == 0


def test_a_session_is_ended_by_an_admin(web: RunningWeb) -> None:
    """Whoever it was is signed out at their next step."""
    with signed_in(web, Role.READER, name="Grace") as other:
        session = only_id(web, "sessions")
        with signed_in(web) as http:
            page = http.get("/access/sessions").text
            assert "Grace" in page
            assert "this is you, here" in page
            assert http.post(f"/access/sessions/{session}/end").status_code == 303
            assert other.get("/").headers["location"] == "/sign-in"
            assert http.post(f"/access/sessions/{session}/end").status_code == 404


def test_an_admin_of_one_client_sees_and_makes_what_is_of_it(web: RunningWeb) -> None:
    """Tokens are made for that client alone, and others' tokens, sessions and entries are not there."""
    make_token(web, client="foreign")
    foreign_token = only_id(web, "api_tokens")
    with signed_in(web, client="foreign", name="Grace"):
        foreign_session = only_id(web, "sessions")
    with signed_in(web, Role.ADMIN, client="ours") as http:
        assert http.post("/access/tokens", data={**FORM, "client": "foreign"}).status_code == 404
        assert http.post("/access/tokens", data=FORM).status_code == 200
        assert http.post(f"/access/tokens/{foreign_token}/revoke").status_code == 404
        assert http.post(f"/access/sessions/{foreign_session}/end").status_code == 404
        for path in ("/access?ended=true", "/access/sessions", "/access/audit?client=foreign"):
            page = http.get(path).text
            assert "Grace" not in page, path
            assert "a test" not in page, path
    bound = "SELECT count(*) FROM api_tokens WHERE client = 'ours' AND revoked_at IS NULL"
    assert web.run(value(web.container, bound)) == 1


def test_what_others_wrote_is_text_on_these_pages(web: RunningWeb) -> None:
    """A name at the provider, a browser's own name, a token's name, a path: none of them becomes markup."""
    path = f"/sign-in/link/{web.run(web.container.sessions.make_link(name=HOSTILE)).reveal()}"
    with httpx.Client(base_url=web.url, headers={"User-Agent": HOSTILE}, trust_env=False) as browser:
        browser.get(path)
        with signed_in(web) as http:
            http.post("/access/tokens", data={**FORM, "name": HOSTILE})
            http.post("/clients/%3Cscript%3Ealert(1)%3C%2Fscript%3E/pause")
        for page in ("/", "/access", "/access/sessions", "/access/audit"):
            text = browser.get(page).text
            assert HOSTILE not in text, page
            assert "&lt;script&gt;" in text, page


def test_the_log_is_chosen_from_and_paged(web: RunningWeb) -> None:
    """By who and by what; sixty entries are two pages; what is no id or act is said, and not taken for all of them."""
    with signed_in(web) as http, signed_in(web, name="Grace") as other:
        for _ in range(60):
            http.post("/access/sessions/00000000-0000-4000-8000-000000000000/end")
        other.post("/sign-out")
        first = http.get("/access/audit", params={"act": Act.SESSION_ENDED.value, "who": "Ada"}).text
        assert first.count("data-key") == 50
        assert "Grace" not in first
        following = re.findall(r'href="(/access/audit\?[^"]*before=\d+)"', first)[0].replace("&amp;", "&")
        assert http.get(following).text.count("data-key") == 10
        assert "signed out" in http.get("/access/audit", params={"who": "Grace"}).text
        for odd in ({"before": "x"}, {"before": "9" * 40}):
            assert http.get("/access/audit", params=odd).status_code == 200, odd
        for wrong, said in (({"grant": "1234-x"}, "s id"), ({"act": "1234-x"}, "no act")):
            page = http.get("/access/audit", params=wrong).text
            assert (said in page, "data-key" in page, "“<bdi>1234-x</bdi>”" in page) == (True, False, True), wrong


def test_every_act_and_kind_has_words() -> None:
    """Whatever stands in the log is told in plain words."""
    assert set(ACTS) == set(Act)
    assert set(KINDS) == set(CallerKind)
