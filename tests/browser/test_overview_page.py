"""The first page as a person meets it: in a real Chromium, served by the real application from a real PostgreSQL."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, Final

import httpx
import psycopg
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, expect
from psycopg import sql

from tests.browser.conftest import APPLICATION_NAME, Rows, ServedApplication
from tests.browser.contrast import LOW_CONTRASTS
from worker.domain.grant import GrantState
from worker.settings import Settings

pytestmark = pytest.mark.browser


@pytest.fixture(autouse=True)
def _signed_in(context: BrowserContext, served: ServedApplication) -> None:
    """Sign the test's window in."""
    served.sign_in(context)


HOSTILE: Final = "<script>document.title = 'broken into'</script><img src=x onerror=alert(1)>" + "long" * 30
PHONE: Final = ViewportSize(width=360, height=740)


def _trouble(rows: Rows) -> None:
    """Write something of everything that can stand on the page."""
    for number, state in enumerate(GrantState):
        rows.add_grant(f"customer-{number}", state=state)
    late = rows.add_grant("late-1", client="acme-other", due_in=timedelta(minutes=-3), access_ends_in=-timedelta(1))
    rows.add_rotation(late, generation=1_234_567, ago=timedelta(minutes=3))
    lost = rows.add_grant(HOSTILE, client="acme-other", state=GrantState.RECONSENT_REQUIRED)
    rows.add_grant("left-behind", client="not-configured")
    rows.add_rotation(lost, generation=7, ago=timedelta(days=2))
    rows.add_event("grant.in_doubt", lost, reason="timeout", generation=7)
    rows.add_event("grant.reconsent_required", lost, reason="rotation_reply_lost", generation=7)
    rows.open_breaker("acme-main", reason="invalid_client", code="bad_secret")


def _headline(page: Page) -> Any:
    return page.get_by_role("heading", level=1)


def _tile(page: Page, name: str) -> Any:
    return page.locator(".tile", has=page.get_by_text(name, exact=True)).locator(".figure")


def test_figures_rotations_and_events_are_shown_in_plain_words(
    page: Page, served: ServedApplication, rows: Rows
) -> None:
    """The page says what is kept alive, what was just rotated, what happened and why."""
    grants = [rows.add_grant(f"customer-{number}") for number in range(3)]
    doubtful = rows.add_grant("customer-9", state=GrantState.IN_DOUBT)
    rows.add_rotation(grants[1], generation=4, ago=timedelta(seconds=90))
    rows.add_rotation(grants[2], generation=8, ago=timedelta(seconds=30))
    rows.add_event("grant.in_doubt", doubtful, reason="timeout", generation=3)
    page.goto(served.url)

    expect(_headline(page)).to_have_text("3 of 4 grants are kept alive, 1 in doubt")
    for name, figure in {"Kept alive": "3", "In doubt": "1", "Need their owner": "0", "Rotations": "1"}.items():
        expect(_tile(page, name)).to_have_text(figure)
    client = page.get_by_role("table", name="Clients").get_by_role("row", name=re.compile("acme-main"))
    expect(client.get_by_role("listitem")).to_have_text(["3 kept alive", "1 in doubt"])
    expect(client.get_by_role("rowheader")).to_contain_text("Acme")

    newest = page.get_by_role("table", name="Just rotated").get_by_role("row").nth(1)
    expect(newest.get_by_role("cell")).to_have_text(["customer-2", "acme-main", "8", re.compile("^3[0-9] s ago$")])
    expect(newest.locator("time")).to_have_attribute("title", re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$"))
    event = page.get_by_role("region", name="What happened").get_by_role("listitem")
    expect(event).to_contain_text("customer-9 fell into doubt")
    expect(event).to_contain_text("The provider did not answer in time.")


def test_dead_grant_leads_to_its_page_until_its_owner_came_back(
    page: Page, served: ServedApplication, rows: Rows
) -> None:
    """A grant that needs its owner names the cause, what to do and where; once they came back, that is said."""
    grant = rows.add_grant("customer 1 & son", state=GrantState.RECONSENT_REQUIRED)
    rows.add_event("grant.reconsent_required", grant, reason="invalid_grant", generation=3)
    page.goto(served.url)

    expect(_headline(page)).to_have_text("1 grant needs its owner")
    expect(page.get_by_role("region", name="Verdict")).to_contain_text("Nobody is mailed: set EVERGRANT_SMTP_URL")
    expect(page.get_by_role("link", name="Show them")).to_have_attribute(
        "href", "/grants?state=reconsent_required&sort=-since"
    )
    happened = page.get_by_role("region", name="What happened")
    expect(happened).to_contain_text("customer 1 & son came to need its owner")
    expect(happened).to_contain_text("Send its owner a re-consent mail.")
    expect(happened.get_by_role("link", name="customer 1 & son")).to_have_attribute("href", f"/grants/{grant}")

    rows.add_event("grant.revived", grant, generation=4)
    expect(happened).to_contain_text("Done since.")


def test_page_refreshes_itself(page: Page, served: ServedApplication, rows: Rows) -> None:
    """What changes in the database is on the page moments later, in its title too, without any reload."""
    grant = rows.add_grant("customer-1")
    rows.add_grant("customer-2")
    page.goto(served.url)
    expect(_headline(page)).to_have_text("All 2 grants are kept alive")
    page.evaluate("document.body.dataset.seen = 'before'")

    rows.change_state(grant, GrantState.RECONSENT_REQUIRED)
    rows.add_event("grant.reconsent_required", grant, reason="invalid_grant")
    expect(_headline(page)).to_have_text("1 grant needs its owner")
    expect(_tile(page, "Need their owner")).to_have_text("1")
    expect(page).to_have_title("1 grant needs its owner · Evergrant")
    expect(page.locator("body")).to_have_attribute("data-seen", "before")


def test_refresh_keeps_the_focus_and_the_place(page: Page, served: ServedApplication, rows: Rows) -> None:
    """Who reads or has reached a link by keyboard stays there while lines come in above."""
    doubtful = rows.add_grant("customer-2", state=GrantState.IN_DOUBT)
    for _ in range(10):
        rows.add_event("grant.in_doubt", doubtful, reason="no_answer")
    grant = rows.add_grant("customer-1", state=GrantState.RECONSENT_REQUIRED)
    rows.add_event("grant.reconsent_required", grant, reason="invalid_grant")
    page.set_viewport_size(PHONE)
    page.goto(served.url)
    events = page.get_by_role("region", name="What happened").get_by_role("listitem")
    expect(events).to_have_count(11)
    link = page.get_by_role("region", name="What happened").get_by_role("link", name="customer-1")
    link.focus()
    link.evaluate("(link) => { link.before = 'the same element'; link.scrollIntoView({ block: 'start' }); }")
    before = link.bounding_box()
    assert before is not None

    rows.add_event("grant.in_doubt", doubtful, reason="no_answer")
    expect(events).to_have_count(12)
    assert page.evaluate("document.activeElement.before") == "the same element"
    assert link.bounding_box() == pytest.approx(before, abs=2)


def test_open_breaker_is_said_with_its_reason(page: Page, served: ServedApplication, rows: Rows) -> None:
    """A client that is not refreshed is the verdict, and its row says why, since when and what to do."""
    rows.add_grant("customer-1")
    rows.open_breaker("acme-main", reason="invalid_client", code="bad_secret")
    page.goto(served.url)

    expect(_headline(page)).to_have_text("Client acme-main is not refreshed")
    row = page.get_by_role("table", name="Clients").get_by_role("row", name=re.compile("acme-main"))
    expect(row).to_contain_text("Breaker opened 3 min ago.")
    expect(row).to_contain_text("Correct the client's secret; no grant is harmed. The provider says bad_secret.")


def test_worst_stands_first_and_the_rest_below_it(page: Page, served: ServedApplication, rows: Rows) -> None:
    """Several troubles are all said, worst first, each with what to do."""
    _trouble(rows)
    page.goto(served.url)

    expect(_headline(page)).to_have_text("Client acme-main is not refreshed")
    others = page.get_by_role("region", name="Verdict").get_by_role("listitem")
    expect(others).to_have_text(
        [
            re.compile(r"Client not-configured is not refreshed\. .* Add \[clients\.not-configured\]"),
            re.compile(r"Client acme-other: 1 grant overdue, the oldest by 3 min\. Are a worker and a beat running\?"),
            re.compile(r"Expired access tokens: 1\."),
            re.compile(r"2 grants need their owner\. Nobody is mailed"),
        ]
    )


def test_without_a_client_the_page_says_how_to_configure_one(page: Page, settings: Settings) -> None:
    """An installation that was just made says what to do first."""
    assert settings.config is not None
    settings.config.write_text("", encoding="utf-8")
    with ServedApplication(settings) as served:
        page.goto(served.url)
        expect(_headline(page)).to_have_text("No client is configured yet")
        start = page.get_by_role("region", name="Configure a client first")
        expect(start).to_contain_text("Copy config/evergrant.example.toml to config/evergrant.toml")
        expect(start).to_contain_text("http://127.0.0.1:8080/connect/<client>?subject=customer-1")


def test_without_grants_the_page_says_how_they_come_in(page: Page, served: ServedApplication) -> None:
    """Configured clients without grants are shown, each with the address at which an owner authorizes it."""
    page.goto(served.url)
    expect(_headline(page)).to_have_text("There is no grant to keep alive yet")
    expect(page.get_by_text("http://127.0.0.1:8080/connect/acme-other?subject=customer-1")).to_be_visible()
    expect(page.get_by_role("table", name="Clients").get_by_role("row")).to_have_count(3)
    expect(page.get_by_text("What the authorization server itself counted")).to_have_count(0)


@pytest.mark.parametrize(
    ("double_spends", "says"),
    [
        (0, ("good", "The only grant is kept alive")),
        (2, ("bad", "Double spends counted by the authorization server: 2")),
    ],
)
def test_sandbox_counts_stand_beside_ours(
    page: Page, served: ServedApplication, rows: Rows, double_spends: int, says: tuple[str, str]
) -> None:
    """In the demo the other side's counts are shown, and a double spend there is the verdict."""
    rows.add_grant("customer-1")
    served.count_in_sandbox({"REFRESH_PRESENTED": 1234, "DOUBLE_SPENDS": double_spends, "FAULTS": 17})
    page.goto(served.url)

    box = page.get_by_role("region", name="What the authorization server itself counted")
    tone, headline = says
    expect(box).to_contain_class(tone)
    expect(box.get_by_role("definition")).to_have_text([str(double_spends), "1,234", "0", "17"])
    expect(_headline(page)).to_have_text(headline)


def test_last_figures_stay_while_the_server_is_away(
    page: Page, served: ServedApplication, rows: Rows, complaints: list[str]
) -> None:
    """Without an answer the page keeps what it knows and says how old that is; with the server it goes on."""
    rows.add_grant("customer-1")
    page.goto(served.url)
    notice = page.get_by_role("status")
    expect(notice).to_be_empty()

    served.stop()
    expect(notice).to_have_text(
        re.compile(r"^The server does not answer\. These figures are from \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC;")
    )
    expect(_headline(page)).to_have_text("The only grant is kept alive")
    expect(page.get_by_role("table", name="Clients")).to_contain_text("1 kept alive")

    rows.add_grant("customer-2")
    served.start()
    expect(_headline(page)).to_have_text("All 2 grants are kept alive")
    expect(notice).to_be_empty()
    assert all("ERR_CONNECTION" in complaint or "ERR_EMPTY" in complaint for complaint in complaints), complaints
    complaints.clear()  # the browser tells of each request that found nobody


def test_last_figures_stay_while_the_database_is_away(
    page: Page, served: ServedApplication, database_server: str, database_url: str, complaints: list[str]
) -> None:
    """While the database refuses connections the page says so, keeps what it knows, and goes on by itself after."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        Rows(connection).add_grant("customer-1")
    page.goto(served.url)
    allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    name = sql.Identifier(database_url.rsplit("/", 1)[1])
    with psycopg.connect(database_server, autocommit=True) as operator:
        operator.execute(allow.format(name, sql.SQL("false")))
        operator.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s", (APPLICATION_NAME,)
        )
        notice = page.get_by_role("status")
        expect(notice).to_contain_text("The database does not answer. These figures are from")
        expect(_headline(page)).to_have_text("The only grant is kept alive")

        other = page.context.new_page()  # a tab that is opened now has no figures to keep
        other.goto(served.url)
        expect(other.get_by_role("heading", level=1)).to_have_text("The database does not answer")

        operator.execute(allow.format(name, sql.SQL("true")))
        expect(notice).to_be_empty()
        expect(other.get_by_role("heading", level=1)).to_have_text("The only grant is kept alive")
    assert all("503" in complaint for complaint in complaints), complaints
    complaints.clear()


def test_hidden_tab_asks_for_nothing(page: Page, served: ServedApplication) -> None:
    """A tab that nobody sees makes no requests, and is fresh at once when it is seen again."""
    turn = """(hidden) => {
        Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.clock.install()
    page.goto(served.url)
    with page.expect_response("**/overview?span=24h"):
        page.clock.run_for(3_000)

    asked: list[str] = []
    page.evaluate(turn, arg=True)
    page.on("request", lambda request: asked.append(request.url.removeprefix(served.url)))
    page.clock.run_for(60_000)
    page.evaluate("fetch('/healthz').then((answer) => answer.text())")  # comes after whatever the clock has set off
    assert asked == ["healthz"]

    with page.expect_response("**/overview?span=24h"):
        page.evaluate(turn, arg=False)


def test_page_works_without_javascript(browser: Browser, served: ServedApplication, rows: Rows) -> None:
    """Where scripts are switched off, the page shows the same and reloads itself."""
    rows.add_grant("customer-1")
    with browser.new_context(java_script_enabled=False) as context:
        served.sign_in(context)
        page = context.new_page()
        page.goto(served.url)
        expect(_headline(page)).to_have_text("The only grant is kept alive")
        rows.add_grant("customer-2")
        expect(_headline(page)).to_have_text("All 2 grants are kept alive")


def test_hostile_subject_is_text(page: Page, served: ServedApplication, rows: Rows) -> None:
    """Markup in a subject is shown as it is written, at first and after a refresh, and never runs."""
    grant = rows.add_grant(HOSTILE)
    rows.add_rotation(grant, generation=1)
    page.goto(served.url)
    subjects = page.locator(".rotations .subject")
    expect(subjects).to_have_text([HOSTILE])
    rows.add_rotation(grant, generation=2)
    expect(subjects).to_have_text([HOSTILE, HOSTILE])
    expect(page).to_have_title("The only grant is kept alive · Evergrant")
    assert page.locator("main script, main img").count() == 0


def test_policy_forbids_what_is_inline(page: Page, served: ServedApplication, complaints: list[str]) -> None:
    """The page's policy refuses an inline script and a foreign image; the page itself needs neither."""
    page.goto(served.url)
    assert not complaints
    with page.expect_console_message(lambda message: "Content Security Policy" in message.text):
        page.evaluate("document.body.append(Object.assign(document.createElement('script'), { text: 'broken = 1' }))")
    with page.expect_console_message(lambda message: "Content Security Policy" in message.text):
        page.evaluate("new Image().src = 'http://127.0.0.2:9/pixel.png'")
    assert page.evaluate("typeof broken") == "undefined"
    assert len(complaints) >= 2
    complaints.clear()


def test_nothing_is_scrolled_sideways_on_a_phone(page: Page, served: ServedApplication, rows: Rows) -> None:
    """At 360 px everything fits, with the longest names too, and a table is still a table to a screen reader."""
    _trouble(rows)
    served.count_in_sandbox({"REFRESH_PRESENTED": 123_456_789})
    page.set_viewport_size(PHONE)
    page.goto(served.url)
    expect(page.get_by_role("table")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    roles = [node["role"]["value"] for node in nodes if not node["ignored"]]
    assert roles.count("table") == 2
    assert {"row", "rowheader", "columnheader", "cell", "caption"} <= set(roles)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_contrast(browser: Browser, served: ServedApplication, rows: Rows, scheme: Any) -> None:
    """All text stands out as WCAG AA asks, in light and dark: in calm, in trouble, and on a page of one message."""
    served.count_in_sandbox({"DOUBLE_SPENDS": 1})
    with browser.new_context(color_scheme=scheme) as context:
        served.sign_in(context)
        page = context.new_page()
        for prepare, address, least in ((None, "", 20), (_trouble, "", 60), (None, "connect/acme-main", 3)):
            if prepare is not None:
                prepare(rows)
            page.goto(served.url + address)
            found = page.evaluate(LOW_CONTRASTS)
            assert found["seen"] >= least
            assert found["low"] == []


def test_message_says_one_thing(page: Page, served: ServedApplication, complaints: list[str]) -> None:
    """A page with a message to a person has a headline and says what to do."""
    answer = page.goto(f"{served.url}connect/acme-main")
    assert answer is not None
    assert answer.status == 400
    expect(page).to_have_title("Whose grant is this? · Evergrant")
    expect(page.get_by_role("main")).to_contain_text("The address must end in ?subject=…")
    complaints.clear()  # of the status


@pytest.mark.parametrize("path", ["", "overview"])
def test_page_is_for_those_who_have_signed_in(served: ServedApplication, rows: Rows, path: str) -> None:
    """Whoever has not signed in is sent to where that is done, and is shown no figure."""
    rows.add_grant("customer-1")
    answer = httpx.get(served.url + path, trust_env=False)
    assert (answer.status_code, answer.text) == (303, "")
    assert answer.headers["location"] == "/sign-in" + ("?return_to=%2Foverview" if path else "")
