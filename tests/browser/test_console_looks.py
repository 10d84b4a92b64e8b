"""Every page of the console as a person meets it: wide and narrow, light and dark, by eye and by keyboard."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from uuid import uuid4

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, ViewportSize, expect

from tests.browser.console_world import HOSTILE, ConsoleWorld, console_world
from worker.domain.roles import Role

pytestmark = pytest.mark.browser

_DESKTOP: Final = ViewportSize(width=1200, height=900)
_PHONE: Final = ViewportSize(width=360, height=740)
#: WCAG 2.2 A and AA, and what axe counts as good practice.
_AXE: Final = {"resultTypes": ["violations"]}


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory, database_server: str, migrated_template: str
) -> Iterator[ConsoleWorld]:
    """Give one installation for all looks: nothing here changes what another one looks at."""
    with console_world(tmp_path_factory.mktemp("console"), database_server, migrated_template) as found:
        yield found


def _pages(world: ConsoleWorld) -> list[str]:
    return [
        "/",
        "/grants",
        "/grants?q=nobody-is-called-so",
        f"/grants/{world.alive}",
        f"/grants/{world.dead}",
        f"/grants/{world.grant(HOSTILE)}",
        *(f"/grants/{world.grant(f'as-{state}')}" for state in ("in_doubt", "suspect", "paused", "revoked")),
        "/grants/reconsent",
        "/clients",
        f"/clients/{world.client}",
        "/clients/other",
        "/mails",
        "/mails?show=waiting",
        "/webhooks",
        "/access",
        "/access?ended=true",
        "/access/sessions",
        "/access/audit",
        "/access/audit?who=nobody-is-called-so",
    ]


@contextmanager
def _window(browser: Browser, size: ViewportSize, scheme: Any) -> Iterator[tuple[Page, list[str]]]:
    """Give a tab, and what the browser complains of there: nothing, once whoever expects something took that out."""
    complaints: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            complaints.append(message.text)

    with browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce") as context:
        page = context.new_page()
        page.on("console", hear)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        yield page, complaints
    assert complaints == []


def _look(page: Page, where: str) -> None:
    """See that a page fits, is open to all, and shows as text what came from outside."""
    size = page.viewport_size
    assert size is not None
    page.wait_for_load_state()  # a form's answer may be there before its style is
    assert page.evaluate("document.documentElement.scrollWidth") == size["width"], where
    assert page.locator("main script, main img, main b").count() == 0, where
    assert page.title() != "broken into", where
    found = Axe().run(page, options=_AXE).response["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == [], where
    expect(page.get_by_role("heading", level=1)).to_have_count(1)


_EACH_SCHEME: Final = pytest.mark.parametrize("scheme", ["light", "dark"])
_EACH_SIZE: Final = pytest.mark.parametrize("size", [_DESKTOP, _PHONE], ids=["desktop", "phone"])


@_EACH_SCHEME
@_EACH_SIZE
def test_each_page_fits_says_no_error_and_is_open_to_all(
    browser: Browser, world: ConsoleWorld, size: ViewportSize, scheme: Any
) -> None:
    """No page is scrolled sideways or complains; axe finds nothing; what came from outside is text."""
    with _window(browser, size, scheme) as (page, _complaints):
        world.served.sign_in(page.context)
        for path in _pages(world):
            page.goto(world.address(path))
            _look(page, path)


@_EACH_SCHEME
@_EACH_SIZE
def test_what_is_seen_once_or_in_passing_is_as_good(
    browser: Browser, world: ConsoleWorld, size: ViewportSize, scheme: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same holds for a new token, a work under way, pages of one message, and whoever has not signed in."""
    monkeypatch.setattr("worker.web.console.bulk_send.AT_ONCE", 1)
    with _window(browser, size, scheme) as (page, complaints):
        # Each page of the work would send for the next part at once.
        page.route("**/static/go_on.js", lambda route: route.fulfill(content_type="text/javascript", body=""))
        world.open(page, "/access")
        page.get_by_label("Who will hold it").fill("billing-service")
        page.get_by_role("button", name="Make a token").click()
        expect(page.get_by_role("heading", name="This is the token")).to_be_visible()
        _look(page, "a new token")

        page.goto(world.address("/grants/reconsent"))
        # Of this client's owners none is mailed: the one address there was refused before.
        page.locator("form.acts input[name=client]").evaluate("(field, name) => field.value = name", world.client)
        page.get_by_role("button", name=re.compile("^Send")).click()
        expect(page.get_by_role("progressbar")).to_be_visible()
        _look(page, "mails under way")

        for path in ("/grants/x", f"/grants/{uuid4()}"):
            page.goto(world.address(path))
            _look(page, path)
        page.context.clear_cookies()
        for path in ("/sign-in", "/sign-in/link/none"):
            page.goto(world.address(path))
            _look(page, path)
        statuses = [re.findall(r"status of (\d+)", complaint) for complaint in complaints]
        assert statuses == [["400"], ["404"], ["410"]], complaints
        complaints.clear()


def test_list_is_searched_sorted_and_paged_in_its_address(page: Page, world: ConsoleWorld) -> None:
    """A search begins subjects and addresses; sorting and pages stand in the address and can be sent on."""
    world.open(page, "/grants")
    rows = page.get_by_role("table", name="Grants").locator("tbody tr")
    expect(rows).to_have_count(50)
    expect(page.locator(".count")).to_contain_text(re.compile(r"^\s*\d+ grants"))
    page.get_by_role("link", name="Next", exact=True).click()
    expect(rows.first).not_to_contain_text("customer-00")
    page.get_by_role("link", name="Previous").click()
    expect(rows).to_have_count(50)

    for text, subject in (("DEAD-", "dead-1"), ("account-77", "dead-1"), ("ada@", "dead-1"), ("<script>", HOSTILE)):
        page.get_by_label("Search").fill(text)
        page.get_by_role("button", name="Search").click()
        expect(rows).to_have_count(1)
        expect(rows.get_by_role("link")).to_have_text(subject)
    page.goto(f"{world.served.url}grants?q={world.dead}")
    expect(rows.get_by_role("link")).to_have_text("dead-1")

    page.goto(f"{world.served.url}grants")
    page.get_by_label("Client").select_option(world.client)
    page.get_by_label("State").select_option("active")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name="Next refresh").click()
    expect(rows.nth(0)).to_contain_text("customer-00")
    expect(page.get_by_role("columnheader", name="Next refresh")).to_have_attribute("aria-sort", "ascending")
    page.get_by_role("link", name="Next refresh").click()
    expect(rows.nth(0).get_by_role("link")).not_to_have_text("customer-00")
    assert "client=" in page.url
    assert "state=active" in page.url
    assert "sort=-due" in page.url

    many = page.get_by_role("link", name="Mail all that need their owner …")
    expect(many).to_have_count(0)  # it would be about others than are shown
    page.goto(f"{world.served.url}grants?client={world.client}&state=reconsent_required")
    expect(many).to_have_count(1)
    page.goto(f"{world.served.url}grants?reason=rotation_reply_lost")
    expect(rows).to_have_count(1)
    expect(many).to_have_count(0)  # it would be about more than is shown


def test_grant_tells_its_life_and_what_to_do(page: Page, world: ConsoleWorld) -> None:
    """A dead grant says who ended it, where, when and what to do; its life has generations, failures and mails."""
    world.open(page, f"/grants/{world.dead}")
    standing = page.get_by_role("region", name="Needs its owner")
    expect(standing).to_contain_text(re.compile(r"On \d+ \w+ \d{4} .+ said that this consent has ended"))
    expect(standing).to_contain_text("Send its owner a re-consent mail.")
    life = page.get_by_role("region", name="Its life").get_by_role("listitem")
    expect(life).to_contain_text(
        [
            "Mail to ada@example.com: refused by the mail server for good",
            "Came to need its owner",
            "Fell into doubt",
            "Refreshed: generation 3",
        ]
    )
    expect(life.first.locator("time")).to_have_attribute("title", re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$"))
    expect(page.get_by_role("region", name="Provider")).to_contain_text("replaced by every refresh")


def test_keyboard_reaches_page_and_acts(page: Page, world: ConsoleWorld) -> None:
    """The first stop leads past the places; a question opens and closes by the keyboard, and stays open when fresh."""
    world.open(page, f"/grants/{world.alive}")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the page")).to_be_focused()
    page.keyboard.press("Enter")
    revoke = page.locator("summary", has_text="Revoke …")
    revoke.focus()
    page.keyboard.press("Enter")
    sure = page.get_by_role("button", name="Revoke for good")
    expect(sure).to_be_visible()
    with page.expect_response(lambda answer: answer.url.endswith(str(world.alive))):
        pass
    expect(sure).to_be_visible()


def test_reader_is_shown_no_button_that_would_refuse(page: Page, world: ConsoleWorld) -> None:
    """Whoever may only look sees the pages without their acts, and is refused what the address alone would do."""
    world.served.sign_in(page.context, Role.READER)
    for path in (f"grants/{world.alive}", f"clients/{world.client}", "mails", "webhooks"):
        page.goto(world.served.url + path)
        expect(page.locator("main form[method=post]")).to_have_count(0)
    page.goto(f"{world.served.url}grants?state=reconsent_required")
    expect(page.get_by_role("button", name="Mail the chosen owners …")).to_have_count(0)


def test_person_of_one_client_sees_no_other(page: Page, world: ConsoleWorld, complaints: list[str]) -> None:
    """Lists hold one client's alone; another's grant and client, and webhooks, are neither shown nor led to."""
    world.served.sign_in(page.context, Role.ADMIN, client="other")
    page.goto(f"{world.served.url}grants")
    places = page.get_by_role("navigation", name="Console").get_by_role("link")
    expect(places).to_have_text(["Overview", "Grants", "Clients", "Mails", "Access"])
    expect(page.locator("tbody tr").first).to_contain_text("other")
    assert page.locator("tbody").inner_text().count(world.client) == 0
    for path in (f"grants/{world.alive}", f"clients/{world.client}", "webhooks"):
        page.goto(world.served.url + path)
        expect(page.locator("body.message")).to_have_count(1)
    page.goto(f"{world.served.url}grants?client={world.client}")
    assert page.locator("tbody").inner_text().count(world.client) == 0
    complaints.clear()  # of the statuses


def test_addresses_that_are_not_ours_are_refused_calmly(page: Page, world: ConsoleWorld, complaints: list[str]) -> None:
    """A cursor, state or id that the console never gave out brings a page that says so, and no error."""
    for path in ("/grants?after=x", "/grants?state=x", "/grants?sort=x", "/grants/x", "/mails?after=x"):
        world.open(page, path)
        expect(page.get_by_role("heading", level=1)).to_have_text("This page cannot be shown")
    complaints.clear()  # of the statuses
