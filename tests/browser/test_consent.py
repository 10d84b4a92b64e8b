"""An owner comes, and comes back: a real Chromium clicks through the forms of an authorization server from npm."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal
from uuid import UUID

import psycopg
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, expect
from psycopg.rows import dict_row

from tests.authorization_servers.oidc_provider import SETTINGS, ClientRegistration, OidcProvider
from tests.browser.conftest import ENVIRONMENT, ServedApplication
from tests.browser.contrast import LOW_CONTRASTS
from worker.domain.secret import Secret
from worker.settings import Settings

pytestmark = [pytest.mark.browser, pytest.mark.node, pytest.mark.usefixtures("oidc_provider_installed")]

PHONE: Final = ViewportSize(width=360, height=740)
CLIENT: Final = "conformance"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The application, whose own host keeps its cookies apart from the server's, and its database."""

    url: str
    issuer: str
    database: psycopg.Connection[dict[str, Any]]

    @property
    def connect(self) -> str:
        """Return the link that the team has given to its customer."""
        return f"{self.url}/connect/{CLIENT}?subject=customer-42"

    def grants(self) -> list[dict[str, Any]]:
        """Return all grants, whole."""
        return self.database.execute("SELECT * FROM grants").fetchall()

    def events(self) -> list[str]:
        """Return the types of all events, in order."""
        return [row["type"] for row in self.database.execute("SELECT type FROM events ORDER BY id").fetchall()]

    def die(self, grant_id: UUID) -> None:
        """Let a grant have ended, as workers would have noted it."""
        self.database.execute(
            "UPDATE grants SET state = 'reconsent_required', state_reason = 'invalid_grant', rotate_at = NULL,"
            " strikes = 2, last_error = 'invalid_grant', last_error_at = now() WHERE id = %s",
            (grant_id,),
        )


@pytest.fixture
def scene(database_url: str, keys: Secret, tmp_path: Path) -> Iterator[Scene]:
    """Run the authorization server, with the application registered there, and the application."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url = f"http://localhost:{port}"
    registration = ClientRegistration(
        client_id="evergrant",
        client_secret=Secret(ENVIRONMENT["CLIENT_SECRET"]),
        redirect_uris=(f"{url}/oauth/callback",),
    )
    configuration = tmp_path / "evergrant.toml"
    with OidcProvider(clients=[registration]) as server:
        [setting] = SETTINGS
        written = setting.toml.read_text(encoding="utf-8").replace("http://localhost:8000", server.issuer)
        lines = [line for line in written.splitlines() if not line.startswith("redirect_uri")]
        promised = "authorization_response_iss_parameter_supported = true"
        lines.insert(lines.index(f'issuer = "{server.issuer}"'), f'display_name = "Foreign"\n{promised}')
        configuration.write_text("\n".join(lines), encoding="utf-8")
        settings = Settings(
            database_url=Secret(database_url),
            keys=keys,
            config=configuration,
            public_url=url,
            home_dir=tmp_path / "home",
        )
        with (
            ServedApplication(settings, port),
            psycopg.connect(database_url, autocommit=True, row_factory=dict_row) as database,
        ):
            yield Scene(url=url, issuer=server.issuer, database=database)


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """Give a tab that does not mind a refusal."""
    tab = context.new_page()
    yield tab
    tab.close()


def authorize(page: Page, login: str) -> None:
    """Sign in at the server's form and allow at the next, up to the page that the callback answers with."""
    page.locator("input[name=login]").fill(login)
    page.locator("input[name=password]").fill("any password is right here")
    page.get_by_role("button", name="Sign-in").click()
    page.get_by_role("button", name="Continue").click()


def sign_out(page: Page) -> None:
    """Forget the session at the authorization server, and nothing else."""
    page.context.clear_cookies(domain="127.0.0.1")


def title(page: Page) -> Any:
    """Return the page's heading."""
    return page.get_by_role("heading", level=1)


def test_an_owner_connects_comes_back_and_is_the_same_grant(page: Page, scene: Scene) -> None:
    """Connect, die, authorize again with the same account: the same row is active, and its history says so."""
    page.goto(scene.connect)
    authorize(page, "ada")
    expect(title(page)).to_have_text("Connected")
    expect(page.get_by_text("customer-42 is connected to Foreign.")).to_be_visible()
    [first] = scene.grants()
    assert (first["state"], first["account"], first["account_source"]) == ("active", "ada", "id_token:sub")

    scene.die(first["id"])
    sign_out(page)
    page.goto(scene.connect)
    authorize(page, "ada")
    expect(title(page)).to_have_text("Connected")

    [second] = scene.grants()
    assert second["id"] == first["id"]
    assert (second["state"], second["generation"], second["strikes"]) == ("active", 1, 0)
    assert (second["state_reason"], second["last_error"], second["account"]) == (None, None, "ada")
    assert scene.events() == ["grant.created", "grant.revived"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_another_account_is_refused_in_plain_words(
    browser: Browser, scene: Scene, scheme: Literal["light", "dark"]
) -> None:
    """On a phone the page fits and can be read; nothing is stored; the button leads to where the right one fits."""
    with browser.new_context(color_scheme=scheme, viewport=PHONE, reduced_motion="reduce") as context:
        page = context.new_page()
        page.goto(scene.connect)
        authorize(page, "ada")
        expect(title(page)).to_have_text("Connected")
        before = scene.grants()

        sign_out(page)
        page.goto(scene.connect)
        authorize(page, "bob")
        expect(title(page)).to_have_text("Another account")
        expect(page.get_by_text("bob")).to_have_count(0)
        expect(page.get_by_text("ada", exact=True)).to_have_count(0)
        assert scene.grants() == before
        assert scene.events() == ["grant.created", "grant.account_refused"]
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        contrasts = page.evaluate(LOW_CONTRASTS)
        assert contrasts["seen"] >= 3
        assert contrasts["low"] == []

        sign_out(page)
        page.get_by_role("link", name="Begin again").click()
        authorize(page, "ada")
        expect(title(page)).to_have_text("Connected")
        [row] = scene.grants()
        assert (row["id"], row["generation"], row["account"]) == (before[0]["id"], 1, "ada")


def test_a_reload_of_the_last_page_is_refused_and_says_that_all_is_well(page: Page, scene: Scene) -> None:
    """The callback's address is still in the bar: once more it stores nothing, and the owner is not frightened."""
    page.goto(scene.connect)
    authorize(page, "ada")
    expect(title(page)).to_have_text("Connected")
    before = scene.grants()

    again = page.reload()

    assert again is not None
    assert again.status == 400
    expect(title(page)).to_have_text("Connected already")
    assert scene.grants() == before
    assert scene.events() == ["grant.created"]
