"""From a mail to the consent and back, in a real browser: in the demo, and at a server that nobody here wrote."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, expect

from tests.authorization_servers.oidc_provider import ClientRegistration, OidcProvider, walk_consent
from tests.authorization_servers.plain_client import open_http
from tests.browser.contrast import LOW_CONTRASTS
from tests.conftest import WebMaker
from tests.support.command_line import ROOT, CommandLine
from tests.support.database import execute, value
from tests.support.mail_server import MailServer
from tests.support.mailing import AT_ONCE, CONFIGURATION, ROUND, dead
from tests.support.running_web import RunningWeb
from tests.support.sandbox_clients import SECRET
from tests.support.waiting import wait_until
from worker.domain.secret import Secret
from worker.sandbox.control import SandboxControl
from worker.sandbox.misbehaviour import Misbehaviour
from worker.storage.sealing import REFRESH_TOKEN, KeyRing, parse_keys
from worker.supervisor import free_port
from worker.usecases.consent_results import GrantStored

pytestmark = [pytest.mark.browser, pytest.mark.slow]

#: Seconds for the demo to start, and for a revoked grant to be noticed and its owner mailed; each takes some ten.
_START_S: Final = 120.0
_MAILED_MS: Final = 90_000
#: Grants that the demo makes for each client.
_SEEDED: Final = 24
_ADDRESSES: Final = re.compile(r"Evergrant is up: +(\S+)/\n.*?owners' mails: +(\S+)\n", re.DOTALL)

_PHONE: Final = ViewportSize(width=360, height=740)
_OIDC: Final = """
[providers.oidc]
display_name = "OIDC"
issuer = "{server.issuer}"
authorization_endpoint = "{server.authorization_endpoint}"
token_endpoint = "{server.token_endpoint}"
revocation_endpoint = "{server.revocation_endpoint}"
pkce = "required"
rotation = "always"
old_token = "invalidated"
strikes = 1
authorize_params = {{ prompt = "consent" }}

[clients.oidc]
provider = "oidc"
client_id = "evergrant"
client_secret = "env:CLIENT_SECRET"
scopes = ["openid", "offline_access"]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """A running `evergrant up --demo`."""

    mails: str  #: the address of the page that shows them
    command_line: CommandLine
    control: SandboxControl

    def grant(self, client: str, subject: str) -> dict[str, Any]:
        """Return a grant as the command line shows it."""
        [found] = [grant for grant in self.grants(client) if grant["subject"] == subject]
        return found

    def grants(self, client: str) -> list[dict[str, Any]]:
        """Return a client's grants."""
        listed = self.command_line.run("grants", "list", "--client", client, "--json")
        found = json.loads(listed.out)
        assert isinstance(found, list)
        return found


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    """Start the demo in a folder of its own, as `make run` does, and stop it as Ctrl-C does."""
    environment = {"EVERGRANT_HOME_DIR": str(tmp_path / "home")}
    command_line = CommandLine(folder=tmp_path, environment=environment)
    with (tmp_path / "log").open("w+b") as log:
        up = subprocess.Popen(
            [sys.executable, "-m", "worker.cli", "up", "--demo", "--port", "0", "--with-parent"],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
        )

        def said() -> re.Match[str] | None:
            return _ADDRESSES.search((tmp_path / "log").read_text(errors="replace"))

        try:
            wait_until(lambda: said() or up.poll() is not None, _START_S, "the demo is up")
            addresses = said()
            assert addresses is not None, (tmp_path / "log").read_text(errors="replace")
            with _control(tmp_path / "home" / "demo") as control:
                running = Demo(mails=addresses[2], command_line=command_line, control=control)
                wait_until(lambda: len(running.grants("acme-demo")) == _SEEDED, _START_S, "the grants are seeded")
                _nothing_goes_wrong(control)
                yield running
        finally:
            up.send_signal(signal.SIGINT)
            assert up.wait(60.0) == 0


@contextmanager
def _control(folder: Path) -> Iterator[SandboxControl]:
    """Open the sandbox's control."""
    providers = tomllib.loads((folder / "evergrant.toml").read_text(encoding="utf-8"))["providers"]
    parts = urlsplit(providers["acme"]["authorization_endpoint"])
    token = Secret((folder / "control-token").read_text(encoding="utf-8").strip())
    with SandboxControl(f"{parts.scheme}://{parts.netloc}", token) as control:
        yield control


def _nothing_goes_wrong(control: SandboxControl) -> None:
    """Take back the demo's faults, once they are ordered, so that nothing goes wrong but what the test does."""
    wait_until(lambda: _last_is_ordered(control), _START_S, "the demo's faults are ordered")
    for placed in control.standing_orders():
        control.cancel_order(placed.order_id)


def _last_is_ordered(control: SandboxControl) -> bool:
    orders = [placed.order for placed in control.standing_orders()]
    return any(order.kind is Misbehaviour.REVOKED_CONSENT and order.times is None for order in orders)


def _press(context: BrowserContext, mail: Page) -> Page:
    """Press the mail's button and return the page that it opens."""
    with context.expect_page() as opened:
        mail.frame_locator("iframe").get_by_role("link").click()
    page: Page = opened.value
    page.wait_for_load_state()
    return page


def test_in_the_demo_a_revoked_grant_comes_back_by_its_mail(demo: Demo, context: BrowserContext, page: Page) -> None:
    """Revoked at the sandbox, mailed, its link clicked, consent given there: the same grant is active again."""
    before = demo.grant("acme-demo", "customer-20")
    assert demo.control.revoke_consent("acme-demo", "customer-20") >= 1

    page.goto(demo.mails)
    mail = page.get_by_role("link", name="customer-20@example.com")
    expect(mail.first).to_be_visible(timeout=_MAILED_MS)
    assert demo.grant("acme-demo", "customer-20")["state"] == "reconsent_required"
    mail.first.click()
    ours = _press(context, page)
    expect(ours.get_by_role("heading", name="Acme")).to_be_visible()
    address = ours.url
    ours.get_by_role("button", name="Authorize again").click()
    expect(ours.get_by_label("Account")).to_be_visible()
    ours.get_by_label("Account").fill("customer-20")
    ours.get_by_role("button", name="Allow").click()
    expect(ours.get_by_role("heading", level=1)).to_have_text("Connected")

    after = demo.grant("acme-demo", "customer-20")
    assert (after["id"], after["state"]) == (before["id"], "active")
    assert after["generation"] > before["generation"]
    ours.goto(address)
    expect(ours.get_by_role("heading", level=1)).to_have_text("All is well")


async def _consented(web: RunningWeb) -> UUID:
    """Walk an owner through the first consent."""
    started = await web.container.consent.begin("oidc", "ada", "ada@example.com", None)
    with open_http() as browser:
        location = await asyncio.to_thread(walk_consent, browser, started.location.reveal(), "ada")
    stored = await web.container.consent.finish(dict(parse_qsl(urlsplit(location).query)), started.browser)
    assert isinstance(stored, GrantStored)
    return stored.grant_id


@pytest.mark.node
def test_at_oidc_provider_the_owner_comes_back_by_a_mail(
    *, oidc_provider_installed: Path, make_web: WebMaker, keys: Secret, context: BrowserContext
) -> None:
    """Its token is revoked there, Evergrant notices, the mail's link leads through its forms back to the same grant."""
    del oidc_provider_installed
    port = free_port()
    registration = ClientRegistration(
        client_id="evergrant",
        client_secret=Secret(SECRET),
        redirect_uris=(f"http://127.0.0.1:{port}/oauth/callback",),
    )
    with MailServer() as mails, OidcProvider(clients=[registration]) as server:
        configuration = _OIDC.format(server=server) + AT_ONCE
        with make_web(configuration, port=port, smtp_url=mails.url, CLIENT_SECRET=SECRET) as web:
            container = web.container
            grant_id = web.run(_consented(web))
            assert web.run(_revoke_at_provider(web, grant_id, keys))
            web.run(container.access_tokens.refresh(grant_id))
            web.run(container.mails.round(ROUND))

            page = context.new_page()
            page.goto(mails.received[0].link)
            page.get_by_role("button", name="Authorize again").click()
            page.locator("input[name=login]").fill("ada")
            page.locator("input[name=password]").fill("any")
            page.get_by_role("button", name="Sign-in").click()
            page.get_by_role("button", name="Continue").click()
            expect(page.get_by_role("heading", level=1)).to_have_text("Connected")
            shown = web.run(container.grants.show(grant_id))
            assert shown is not None
            assert shown.state == "active"


async def _revoke_at_provider(web: RunningWeb, grant_id: UUID, keys: Secret) -> bool:
    sealed = await value(web.container, "SELECT refresh_token FROM grants WHERE id = :id", id=grant_id)
    held = KeyRing(parse_keys(keys), os.urandom).open(sealed, REFRESH_TOKEN, grant_id)
    client = web.container.configuration.registry.client("oidc")
    return await web.container.rotation.token_tools.revoke(client, held)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_mails_and_their_pages_are_readable(
    scheme: Literal["light", "dark"], make_web: WebMaker, browser: Browser
) -> None:
    """A mail, a digest, and the page behind each, before and after its press: on a phone, in light and in dark."""
    with (
        MailServer() as mails,
        make_web(CONFIGURATION + AT_ONCE, smtp_url=mails.url) as web,
        browser.new_context(viewport=_PHONE, color_scheme=scheme) as context,
    ):
        web.run(
            dead(web.container, "a-long-name-without-any-space-that-goes-on@an-equally-long-host.example", email="a@b")
        )
        web.run(web.container.mails.round(ROUND))
        for subject in ("customer-1", "customer-2", "customer-3"):
            web.run(dead(web.container, subject, email="ada@example.com"))
        web.run(web.container.mails.round(ROUND))
        one, several = mails.received
        page = context.new_page()
        for html in (one.html, several.html):
            page.set_content(html)
            _readable(page)
        for link in (one.link, several.link):
            page.goto(link)
            _readable(page)
        web.run(execute(web.container, "UPDATE reconsent_mails SET link_used_at = now()"))
        for link in (one.link, several.link):
            page.goto(link)
            _readable(page)


def _readable(page: Page) -> None:
    found = page.evaluate(LOW_CONTRASTS)
    assert found["seen"] > 2
    assert not found["low"]
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
