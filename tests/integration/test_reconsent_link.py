"""The link in a mail, from its page to the provider and back: once, by its button alone, and never for a dead end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import pytest

from tests.conftest import WebMaker
from tests.support.consenting import expect_callback, query_of
from tests.support.database import everything_in, execute, value
from tests.support.mail_server import MailServer
from tests.support.mailing import AT_ONCE, ROUND
from tests.support.running_web import RunningWeb
from tests.support.sandbox_clients import SandboxClient, adopt, register
from worker.domain.secret import Secret
from worker.sandbox import owner
from worker.sandbox.server import RunningSandbox
from worker.storage.link_signing import Link, write_link
from worker.storage.sealing import KeyRing, parse_keys

_FORM = re.compile(r'<form method="post" action="([^"]+)">')
_ENDED = "UPDATE grants SET state = 'reconsent_required', state_since = now(), rotate_at = NULL, email = :email"


@pytest.fixture
def server() -> Iterator[MailServer]:
    """Run a mail server."""
    with MailServer() as running:
        yield running


@pytest.fixture
def client(sandbox: RunningSandbox) -> SandboxClient:
    """Register a client."""
    return register(sandbox, client='display_name = "Acme CRM"')


@pytest.fixture
def web(sandbox: RunningSandbox, client: SandboxClient, server: MailServer, make_web: WebMaker) -> Iterator[RunningWeb]:
    """Serve the pages, with one grant whose owner has been mailed."""
    with make_web(client.toml + AT_ONCE, smtp_url=server.url, **client.environment) as running:
        expect_callback(sandbox, client, running.url)
        running.run(adopt(running.container, sandbox, client))
        _die(running)
        yield running


def _die(web: RunningWeb) -> None:
    web.run(execute(web.container, _ENDED, email="ada@example.com"))
    web.run(web.container.mails.round(ROUND))


@contextmanager
def _browser(web: RunningWeb) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=web.url, trust_env=False, timeout=30) as http:
        yield http


def _pressed(http: httpx.Client, link: str) -> httpx.Response:
    """Look at a link's page and press its one button."""
    page = http.get(link)
    assert page.status_code == 200, page.text
    [action] = _FORM.findall(page.text)
    return http.post(httpx.URL(link).join(action.replace("&amp;", "&")))


def _consents_begun(web: RunningWeb) -> int:
    return int(web.run(value(web.container, "SELECT count(*) FROM authorization_requests")))


def _refused(answer: httpx.Response, status: int, title: str) -> None:
    assert answer.status_code == status, answer.text
    assert f"<h1>{title}</h1>" in answer.text


def test_the_button_brings_the_same_grant_back(web: RunningWeb, server: MailServer) -> None:
    """Page, button, the provider's consent, callback: the grant is active again under its id, and the link says so."""
    [before] = web.run(web.container.grants.list(client=None, state=None, after=None, limit=9))
    with _browser(web) as http:
        page = http.get(server.received[0].link)
        assert "Acme CRM" in page.text
        assert before.subject in page.text
        assert page.headers["referrer-policy"] == "no-referrer"
        assert page.headers["cache-control"] == "no-store"
        assert _consents_begun(web) == 0

        sent_off = _pressed(http, server.received[0].link)
        assert sent_off.status_code == 303
        asked = query_of(sent_off.headers["location"])
        assert asked["state"]
        back = owner.allow(sent_off.headers["location"], account=before.subject)
        assert "Connected" in http.get(back).text
        _refused(http.get(server.received[0].link), 200, "All is well")
        assert http.post(server.received[0].link, params={"grant": str(before.id)}).status_code == 200

    [after] = web.run(web.container.grants.list(client=None, state=None, after=None, limit=9))
    assert (after.id, after.state, after.generation) == (before.id, "active", before.generation + 1)
    assert _consents_begun(web) == 1


def test_a_scanner_that_opens_links_uses_none(web: RunningWeb, server: MailServer) -> None:
    """Opening it a hundred times, with any method but the button's, mints no state and leaves it good."""
    with _browser(web) as http:
        for method in ("GET", "HEAD", "OPTIONS", "PUT"):
            http.request(method, server.received[0].link)
        http.get(server.received[0].link)
        assert _consents_begun(web) == 0
        assert _pressed(http, server.received[0].link).status_code == 303


def test_a_link_is_good_for_one_press(web: RunningWeb, server: MailServer) -> None:
    """Pressed again, in the same browser or another, nothing is begun; a new link comes by mail, and works."""
    first = server.received[0].link
    with _browser(web) as http, _browser(web) as other:
        grant = urlsplit(str(_pressed(http, first).request.url)).query
        for browser in (http, other):
            _refused(browser.post(f"{first}?{grant}"), 410, "This link was used")
            _refused(browser.get(first), 410, "This link was used")
        assert _consents_begun(web) == 1

        [again] = _FORM.findall(http.get(first).text)
        _refused(http.post(httpx.URL(first).join(again)), 200, "A new link is on its way")
        _refused(http.post(httpx.URL(first).join(again)), 200, "There is a newer mail")
        web.run(web.container.mails.round(ROUND))
        _refused(http.get(first), 410, "This link was used")
        _refused(http.post(httpx.URL(first).join(again)), 200, "There is a newer mail")
        assert len(server.received) == 2
        assert server.received[1].link != first
        assert _pressed(other, server.received[1].link).status_code == 303


def test_forged_links_are_unknown(web: RunningWeb, server: MailServer, keys: Secret) -> None:
    """A changed character, another key's signature, a mail that never was: one page, and nothing is stored."""
    good = server.received[0].link
    base, _, secret = good.rpartition("/")
    message_id = UUID(str(web.run(value(web.container, "SELECT message_id FROM reconsent_mails WHERE kind = 'death'"))))
    grant_id = web.run(value(web.container, "SELECT id FROM grants"))
    now = web.run(web.container.grants.now())
    foreign = KeyRing(parse_keys(Secret(f"x:{'A' * 43}=")), lambda count: b"\0" * count)
    ours = KeyRing(parse_keys(keys), lambda count: b"\0" * count)
    link = Link(message_id=message_id, expires_at=now + timedelta(days=1))
    forged = [
        "nonsense",
        secret[:-1],
        f"{secret}A",
        secret[:10] + ("A" if secret[10] != "A" else "B") + secret[11:],
        write_link(link, foreign).reveal(),
        write_link(Link(message_id=UUID(int=1), expires_at=link.expires_at), ours).reveal(),
        "%00",
        "x" * 5000,
    ]
    with _browser(web) as http:
        for one in forged:
            _refused(http.get(f"{base}/{one}"), 404, "We do not know this link")
            _refused(http.post(f"{base}/{one}?grant={grant_id}"), 404, "We do not know this link")
            _refused(http.post(f"{base}/{one}/again"), 404, "We do not know this link")
        for grant in ("", "nonsense", str(UUID(int=7))):
            _refused(http.post(good, params={"grant": grant}), 404, "We do not know this link")

        # A link whose end somebody has moved is not signed; one that has run out is, and says so.
        gone = write_link(Link(message_id=message_id, expires_at=now - timedelta(seconds=1)), ours).reveal()
        _refused(http.get(f"{base}/{gone}"), 410, "This link has run out")
        _refused(http.post(f"{base}/{gone}?grant={grant_id}"), 410, "This link has run out")
        assert _consents_begun(web) == 0
        assert _pressed(http, good).status_code == 303


def test_a_link_is_bound_to_its_death(web: RunningWeb, server: MailServer) -> None:
    """What came back and died again has a newer mail; what was ended or paused needs none."""
    old = server.received[0].link
    _die(web)
    with _browser(web) as http:
        _refused(http.get(old), 410, "There is a newer mail")
        assert http.get(server.received[1].link).status_code == 200
        for state in ("revoked", "paused"):
            web.run(execute(web.container, "UPDATE grants SET state = :state", state=state))
            _refused(http.get(server.received[1].link), 410, "Nobody waits for this any more")
        web.run(execute(web.container, "DELETE FROM grants"))
        _refused(http.get(server.received[1].link), 410, "Nobody waits for this any more")
    assert _consents_begun(web) == 0


def test_a_digest_has_a_button_for_each(
    sandbox: RunningSandbox, web: RunningWeb, client: SandboxClient, server: MailServer
) -> None:
    """One link leads to all of an owner's grants; each is authorized by itself, and the others stay open."""
    web.run(adopt(web.container, sandbox, client, 2, first_number=2))
    _die(web)
    link = server.received[1].link
    with _browser(web) as http:
        page = http.get(link)
        actions = _FORM.findall(page.text)
        assert len(actions) == 3
        assert http.post(httpx.URL(link).join(actions[1])).status_code == 303
        assert "link used" in http.get(link).text
        used, *others = sorted(_FORM.findall(http.get(link).text), key=lambda action: not action.endswith("/again"))
        assert len(others) == 2
        assert http.post(httpx.URL(link).join(actions[0])).status_code == 303
        assert http.post(httpx.URL(link).join(actions[2])).status_code == 303
        # None has come to the end: whoever closed the provider's page is not left without a way.
        assert _FORM.findall(http.get(link).text) == [used]
        assert "A new link is on its way" in http.post(httpx.URL(link).join(used)).text
        web.run(execute(web.container, "UPDATE grants SET state = 'active', rotate_at = now() + interval '1 hour'"))
        assert "All is well" in http.get(link).text


def test_what_cannot_be_begun_does_not_use_the_link(
    web: RunningWeb, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the consent is not begun, for the database went away meanwhile, the link stays good."""

    async def away(*_arguments: object) -> None:
        raise TimeoutError

    with _browser(web) as http:
        with monkeypatch.context() as patched:
            patched.setattr(type(web.container.consent), "begin", away)
            _refused(_pressed(http, server.received[0].link), 503, "Not now")
        assert _pressed(http, server.received[0].link).status_code == 303


def test_no_table_holds_a_link(web: RunningWeb, server: MailServer) -> None:
    """Whoever reads the database can follow none: the link is signed and not stored."""
    with _browser(web) as http:
        _pressed(http, server.received[0].link)
    secret = server.received[0].link.rpartition("/")[2]
    for table in ("reconsent_mails", "events", "authorization_requests", "grants"):
        assert secret not in web.run(everything_in(web.container, table))
