"""Signing in by a link, sessions and their cookies, and what an act's form must bring along."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import httpx
import pytest
from structlog.testing import capture_logs

from tests.conftest import WebMaker
from tests.support.database import execute, rows, value
from tests.support.running_web import RunningWeb
from tests.support.signing_in import signed_in
from worker.domain.roles import Role
from worker.web.page_route import CSRF_FIELD, CSRF_HEADER

HTTPS = "https://tokens.example"


@pytest.fixture
def web(make_web: WebMaker) -> Iterator[RunningWeb]:
    """Serve an installation without clients."""
    with make_web("") as running:
        yield running


@pytest.fixture
def http(web: RunningWeb) -> Iterator[httpx.Client]:
    """Give a browser-like client that has not signed in."""
    with httpx.Client(base_url=web.url, trust_env=False, timeout=30) as client:
        yield client


def link(web: RunningWeb, role: Role = Role.ADMIN, *, lifetime: timedelta = timedelta(hours=1)) -> str:
    """Make a link and return its path."""
    part = web.run(web.container.sessions.make_link(name="ada", role=role, lifetime=lifetime))
    return f"/sign-in/link/{part.reveal()}"


def test_a_link_signs_in_once(web: RunningWeb, http: httpx.Client) -> None:
    """The first to open a link is signed in and sees the page; the second is told how to get another one."""
    path = link(web, Role.READER)
    first = http.get(path)

    assert (first.status_code, first.headers["location"]) == (303, "/")
    page = http.get("/")
    assert page.status_code == 200
    assert "ada" in page.text
    assert "reader" in page.text
    http.cookies.clear()
    second = http.get(path)
    assert (second.status_code, "set-cookie" in second.headers) == (410, False)
    assert "evergrant console link" in second.text
    entry = web.run(rows(web.container, "SELECT act, outcome, kind, actor, role, address FROM audit_log"))
    assert [tuple(row) for row in entry] == [("sign_in", "done", "person", "ada", "reader", "127.0.0.1")]


def test_a_link_is_used_up_with_the_session_that_it_begins_or_not_at_all(web: RunningWeb, http: httpx.Client) -> None:
    """Where the session cannot be stored the link is as good as before, and signs in when it can."""
    path = link(web)
    web.run(execute(web.container, "ALTER TABLE sessions ADD CONSTRAINT full_now CHECK (name <> 'ada')"))
    assert http.get(path).status_code == 500
    web.run(execute(web.container, "ALTER TABLE sessions DROP CONSTRAINT full_now"))
    assert http.get(path).headers["location"] == "/"


def test_two_links_of_one_name_are_two_people(web: RunningWeb) -> None:
    """A link that names nobody is for the service's user: who signs out everywhere ends no other link's session."""
    with httpx.Client(base_url=web.url, trust_env=False) as one, httpx.Client(base_url=web.url, trust_env=False) as two:
        for browser in (one, two):
            browser.get(link(web))
        found = re.search(rf'name="{CSRF_FIELD}" value="([^"]+)"', one.get("/").text)
        assert found is not None
        assert one.post("/sign-out/everywhere", data={CSRF_FIELD: found[1]}).headers["location"] == "/sign-in"
        assert (one.get("/").status_code, two.get("/").status_code) == (303, 200)


def test_a_link_that_has_run_out_or_was_made_up_signs_nobody_in(web: RunningWeb, http: httpx.Client) -> None:
    """Past its end, cut, changed or invented: no session."""
    past = link(web, lifetime=timedelta(0))
    good = link(web)
    for path in (past, good[:-1], f"{good}A", "/sign-in/link/x", "/sign-in/link/%C3%BC"):
        answer = http.get(path)
        assert (answer.status_code, "set-cookie" in answer.headers) == (410, False), path
    assert http.get(good).status_code == 303


def test_the_cookie_is_bound_to_its_host_and_unseen_by_scripts(make_web: WebMaker) -> None:
    """Over https it has the prefix that browsers hold to this host; on loopback without it, all the rest."""
    for public_url, begins, secure in ((None, "evergrant_session_", False), (HTTPS, "__Host-evergrant_session=", True)):
        with make_web("", public_url=public_url) as web:
            cookie = httpx.get(web.url + link(web), trust_env=False).headers["set-cookie"]
            assert cookie.startswith(begins)
            flags = {part.strip().lower() for part in cookie.split(";")[1:]}
            assert {"httponly", "samesite=lax", "path=/"} <= flags
            assert ("secure" in flags) == secure
            assert not any(flag.startswith("domain") for flag in flags)


def test_nobody_signs_in_where_a_session_could_be_read_on_its_way(make_web: WebMaker) -> None:
    """Under a public URL that is neither https nor this machine's, the page says what to set, and no link is used."""
    with make_web("", public_url="http://tokens.example") as web:
        path = link(web)
        for asked in ("/sign-in", path):
            answer = httpx.get(web.url + asked, trust_env=False)
            assert (answer.status_code, "EVERGRANT_PUBLIC_URL" in answer.text) == (403, True)
        assert web.run(value(web.container, "SELECT count(*) FROM sign_in_links WHERE used_at IS NULL")) == 1


def test_a_session_that_was_there_before_is_not_taken_over(web: RunningWeb, http: httpx.Client) -> None:
    """Signing in makes a new session and ends the browser's former one: a planted cookie is worth nothing."""
    http.get(link(web, Role.READER))
    [(name, planted)] = http.cookies.items()
    http.get(link(web, Role.ADMIN))

    assert http.cookies[name] != planted
    assert httpx.get(f"{web.url}/", cookies={name: planted}, trust_env=False).status_code == 303
    invented = httpx.get(web.url + link(web), cookies={name: "A" * 86}, trust_env=False)
    assert invented.cookies[name] != "A" * 86


def test_sessions_end_when_unused_and_anyway(web: RunningWeb) -> None:
    """Two hours unused, or twelve at all, and one is sent to sign in again."""
    for late in (
        "UPDATE sessions SET last_used_at = now() - interval '121 minutes'",
        "UPDATE sessions SET expires_at = now()",
    ):
        with signed_in(web) as http:
            assert http.get("/").status_code == 200
            web.run(execute(web.container, late))
            assert http.get("/").headers["location"] == "/sign-in"


def test_a_page_that_keeps_itself_fresh_does_not_keep_a_session(web: RunningWeb) -> None:
    """What a script asks for is not somebody at work; what a person opens is."""
    with signed_in(web) as http:
        web.run(execute(web.container, "UPDATE sessions SET last_used_at = now() - interval '1 hour'"))
        unused = "SELECT last_used_at < now() - interval '59 minutes' FROM sessions"
        http.get("/overview", headers={"Sec-Fetch-Dest": "empty"})
        assert web.run(value(web.container, unused))
        http.get("/")
        assert not web.run(value(web.container, unused))


def test_signing_out_ends_the_session_here_or_everywhere(web: RunningWeb) -> None:
    """A copy of the cookie is worth nothing afterwards; everywhere means every browser of that person, and no other."""
    with signed_in(web) as here, signed_in(web) as there, signed_in(web, name="Grace") as other:
        kept = dict(here.cookies)
        out = here.post("/sign-out")
        assert (out.status_code, out.headers["location"]) == (303, "/sign-in")
        assert httpx.get(f"{web.url}/", cookies=kept, trust_env=False).status_code == 303
        assert there.get("/").status_code == 200

        with signed_in(web) as again:
            again.post("/sign-out/everywhere")
        assert there.get("/").status_code == 303
        assert other.get("/").status_code == 200


def test_a_form_without_the_token_of_its_session_does_nothing(web: RunningWeb) -> None:
    """No token, another session's, one of another site's making, or a foreign page that posts: 403, still signed in."""
    with signed_in(web) as http, signed_in(web, name="Grace") as other:
        good, others = http.headers.pop(CSRF_HEADER), other.headers[CSRF_HEADER]
        for fields in ({}, {CSRF_FIELD: ""}, {CSRF_FIELD: others}, {CSRF_FIELD: good[:-1]}, {CSRF_FIELD: "ü"}):
            assert http.post("/sign-out", data=fields).status_code == 403, fields
        for site in ("cross-site", "same-site"):
            foreign = http.post("/sign-out", data={CSRF_FIELD: good}, headers={"Sec-Fetch-Site": site})
            assert foreign.status_code == 403
        assert http.post("/sign-out", json={CSRF_FIELD: good}).status_code == 403
        assert http.get("/").status_code == 200
        assert http.post("/sign-out", data={CSRF_FIELD: good}).status_code == 303
        refused = "SELECT count(*) FROM audit_log WHERE act = 'sign_out' AND outcome = 'refused'"
        assert web.run(value(web.container, refused)) == 8


def test_a_forged_cookie_is_not_looked_for(web: RunningWeb, http: httpx.Client) -> None:
    """Whoever can read the table still lacks the signature; a hash, an id or another's bytes open nothing."""
    with signed_in(web) as person:
        [(name, cookie)] = person.cookies.items()
        session: UUID = web.run(value(web.container, "SELECT id FROM sessions"))
        for forged in (str(session), cookie[:43], cookie[:-4] + "AAAA", "", "ü", "A" * 5000):
            http.cookies.clear()
            answer = http.get("/", headers={b"Cookie": f"{name}={forged}".encode()})
            assert answer.headers["location"] == "/sign-in", forged


def test_return_to_leads_to_our_own_pages_alone(web: RunningWeb) -> None:
    """Another host, another scheme, a line end: whoever has signed in already goes to the first page."""
    with signed_in(web) as http:
        for asked in ("https://evil.example", "//evil.example", "/\\evil.example", "/a\r\nSet-Cookie: stolen=1"):
            answer = http.get("/sign-in", params={"return_to": asked})
            assert (answer.status_code, answer.headers["location"]) == (303, "/"), asked
            assert "stolen" not in str(answer.headers)
        assert http.get("/sign-in", params={"return_to": "/access"}).headers["location"] == "/access"


def test_private_pages_are_kept_nowhere_and_framed_by_nobody(web: RunningWeb) -> None:
    """Pages, refusals and the way out carry the headers that say so; signing out clears what the browser has."""
    with signed_in(web, Role.READER) as http:
        answers = [http.get(path) for path in ("/", "/overview", "/access", "/sign-in", "/sign-in/link/x")]
        answers.append(http.post("/sign-out", data={}, headers={CSRF_HEADER: "x"}))
        for answer in answers:
            assert answer.headers["cache-control"] == "no-store", answer.url
            policy = answer.headers["content-security-policy"]
            assert "frame-ancestors 'none'" in policy
            assert "form-action 'self'" in policy
            assert answer.headers["referrer-policy"] == "no-referrer"
        out = http.post("/sign-out")
        assert out.headers["clear-site-data"] == '"cache", "storage"'
        assert "max-age=0" in out.headers["set-cookie"].lower()


def test_what_an_address_holds_reaches_no_header(http: httpx.Client) -> None:
    """Line ends in an address, percent-encoded, come back in no header of the answer."""
    for path in ("/sign-in/link/x%0d%0aSet-Cookie:%20stolen=1", "/sign-in?return_to=%2Fa%0d%0aSet-Cookie:%20stolen=1"):
        answer = http.get(path)
        assert "stolen" not in str(answer.headers)
    answer = http.get("/grants%0d%0aSet-Cookie:%20stolen=1")
    assert "stolen" not in str(answer.headers)


def test_a_proxy_that_nobody_has_named_is_logged_once(make_web: WebMaker) -> None:
    """Its word of who asks is not believed; that it was given is said, with the address to look for, and not again."""
    with capture_logs() as captured, make_web("") as web, httpx.Client(base_url=web.url, trust_env=False) as http:
        for _time in range(2):
            http.get("/sign-in/link/x", headers={"X-Forwarded-For": "192.0.2.1"})
    told = [line for line in captured if line["event"] == "proxy_not_trusted"]
    assert [line["address"] for line in told] == ["127.0.0.1"]
