"""What an operator does in the console, each act in a real browser, at the sandbox and in the audit log."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser.console_world import ConsoleWorld, console_world
from tests.support.waiting import wait_until

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory, database_server: str, migrated_template: str
) -> Iterator[ConsoleWorld]:
    """Give one installation for all acts: each is about a grant, client or endpoint of its own."""
    with console_world(tmp_path_factory.mktemp("console"), database_server, migrated_template) as found:
        yield found


def _says(page: Page, text: str) -> None:
    expect(page.locator(".said")).to_contain_text(text)


def _audited(world: ConsoleWorld, act: str) -> list[str]:
    found = world.installation.query(f"SELECT outcome FROM audit_log WHERE act = '{act}' AND actor = 'Ada' ORDER BY id")
    return [str(outcome) for (outcome,) in found]


def test_grant_is_refreshed_paused_resumed_and_revoked(page: Page, world: ConsoleWorld) -> None:
    """Each button does what it says at once, the page tells what came of it, and the grant's life who did it."""
    grant = world.alive
    world.open(page, f"/grants/{grant}")
    page.get_by_role("button", name="Refresh now").click()
    _says(page, "Refreshed: the new tokens are stored.")
    expect(page.get_by_role("region", name="Its life")).to_contain_text("Refreshed: generation 1")
    expect(page.get_by_role("region", name="Its life")).to_contain_text("Ada had it refreshed")

    page.get_by_role("button", name="Pause").click()
    _says(page, "Paused.")
    expect(page.get_by_role("heading", name="Paused by an operator")).to_be_visible()
    assert world.state(grant) == "paused"
    expect(page.get_by_role("button", name="Refresh now")).to_have_count(0)

    page.get_by_role("button", name="Resume").click()
    _says(page, "Resumed.")
    assert world.state(grant) == "active"

    page.locator("summary", has_text="Revoke …").click()
    assert world.state(grant) == "active"
    page.get_by_role("button", name="Revoke for good").click()
    _says(page, "Ended")
    assert world.state(grant) == "revoked"
    expect(page.get_by_role("region", name="Its life")).to_contain_text("Ada revoked it")
    for act in ("grant.refresh", "grant.pause", "grant.resume", "grant.revoke"):
        assert len(_audited(world, act)) == 1


def test_owner_of_a_dead_grant_is_mailed_once(page: Page, world: ConsoleWorld) -> None:
    """“Send re-consent mail” asks for one mail; then there is no button, for one is on its way."""
    world.open(page, f"/grants/{world.dead}")
    page.get_by_role("button", name="Send re-consent mail").click()
    _says(page, "A mail was asked for.")
    expect(page.get_by_role("region", name="Needs its owner")).to_contain_text("a mail to its owner is on its way")
    expect(page.get_by_role("button", name="Send re-consent mail")).to_have_count(0)
    count = f"SELECT count(*) FROM reconsent_mails WHERE grant_id = '{world.dead}' AND kind = 'operator'"
    assert world.installation.query(count) == [(1,)]


def test_operator_mails_many_after_seeing_who_gets_what(page: Page, world: ConsoleWorld) -> None:
    """From the list to the preview to the mails: one address gets one mail, and whoever is left out has a reason."""
    world.open(page, "/")
    page.get_by_role("link", name="Grants", exact=True).click()
    page.get_by_label("State").select_option("reconsent_required")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name="Mail all that need their owner …").click()
    page.get_by_label("All that need their owner now or soon, of").select_option("other")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("heading", name="1 mail about 1 grant")).to_be_visible()
    expect(page.get_by_role("table", name="Who gets what")).to_contain_text("grace@example.com")
    page.get_by_role("button", name="Send 1 mail").click()
    _says(page, "Mails about 1 grant were asked for")
    expect(page.get_by_role("table", name="Who has a mail already")).to_contain_text("A mail about it is on its way")
    page.get_by_role("link", name="Watch the mails go out").click()
    expect(page.get_by_role("row", name="grace@example.com")).to_contain_text("asked for by an operator")
    assert _audited(world, "reconsent.send")[-1] == "done"


def test_chosen_owners_alone_are_previewed(page: Page, world: ConsoleWorld) -> None:
    """Of a list some are chosen; the preview is about those alone."""
    world.open(page, "/grants?q=as-reconsent")
    page.get_by_label("Choose as-reconsent_required").check()
    page.get_by_role("button", name="Mail the chosen owners …").click()
    expect(page.get_by_text("1 grant was looked at")).to_be_visible()


def test_the_address_of_an_owner_is_set(page: Page, world: ConsoleWorld) -> None:
    """Where nobody is known to write to, the grant's own page takes an address, even while it refreshes itself."""
    world.open(page, "/grants?q=as-revoked")
    page.get_by_role("link", name="as-revoked").click()
    owner = page.get_by_role("region", name="Owner")
    owner.locator("summary").click()
    owner.get_by_label("Where its owner is mailed").fill("ada@example.com")
    with page.expect_response(lambda answer: "/grants/" in answer.url):
        pass
    owner.get_by_role("button", name="Save").click()
    _says(page, "Its owner's address is changed.")
    expect(owner).to_contain_text("ada@example.com")


def test_all_of_a_page_are_chosen_at_once(page: Page, world: ConsoleWorld) -> None:
    """One box chooses all; it is not ticked once one of them is left out, and the choice outlives a refresh."""
    world.open(page, "/grants?state=reconsent_required")
    every, one = page.get_by_label("Choose all on this page"), page.get_by_label("Choose dead-1")
    every.check()
    boxes = page.get_by_role("checkbox").all()
    assert len(boxes) > 2
    assert all(box.is_checked() for box in boxes)
    one.uncheck()
    expect(every).not_to_be_checked()
    with page.expect_response(lambda answer: "/grants?" in answer.url):
        pass
    page.get_by_role("button", name="Mail the chosen owners …").click()
    expect(page.get_by_text(f"{len(boxes) - 2} grants were looked at")).to_be_visible()


def test_client_is_tried_paused_and_resumed(page: Page, world: ConsoleWorld) -> None:
    """A try tells a good connection from one that reaches nobody, touches no grant, and the hand on a client works."""
    world.open(page, f"/clients/{world.client}")
    page.get_by_role("button", name="Test connection").click()
    _says(page, "The connection is good")
    page.get_by_role("button", name="Pause").click()
    _says(page, "Paused. None of its grants")
    expect(page.get_by_role("region", name="What holds it back")).to_contain_text("by an operator")
    page.get_by_role("button", name="Resume").click()
    _says(page, "Resumed.")

    world.open(page, "/clients/other")
    expect(page.get_by_role("region", name="What holds it back")).to_contain_text(
        re.compile(r"Breaker opened \d min ago")
    )
    page.get_by_role("button", name="Test connection").click()
    _says(page, "The provider cannot be reached.")
    assert _audited(world, "client.test") == ["done", "failed"]


def test_the_deaths_of_a_braked_client_are_said_to_be_real(page: Page, world: ConsoleWorld) -> None:
    """It is asked whether that is sure, for owners are mailed; then the brake is off, and stays off for a while."""
    world.installation.query(
        f"INSERT INTO client_status (client, braked_at) VALUES ('{world.client}', now())"
        " ON CONFLICT (client) DO UPDATE SET braked_at = now()"
    )
    world.open(page, f"/clients/{world.client}")
    expect(page.get_by_role("region", name="What holds it back")).to_contain_text("Brake on")
    page.locator("summary", has_text="The deaths are real …").click()
    expect(page.get_by_text("Mails cannot be called back.")).to_be_visible()
    page.get_by_role("button", name="Let them die").click()
    _says(page, "Resumed.")
    expect(page.get_by_role("heading", name="Nothing holds it back")).to_be_visible()
    status = "SELECT braked_at, brake_overruled_at > now() - interval '1 minute' FROM client_status"
    assert world.installation.query(f"{status} WHERE client = '{world.client}'") == [(None, True)]


def test_failed_mail_is_sent_again(page: Page, world: ConsoleWorld) -> None:
    """What the mail server refused stands there with its words; “Resend” asks for another, or says why not."""
    world.open(page, "/mails?show=failed")
    row = page.get_by_role("row", name=re.compile("fallback@example.com"))
    expect(row).to_contain_text("550 5.1.1 <b>no such mailbox</b>")
    row.get_by_role("button", name="Resend").click()
    _says(page, "mail")
    assert len(_audited(world, "mail.resend")) == 1


def test_webhook_endpoint_is_tried_paused_resumed_and_sent_what_was_dead(page: Page, world: ConsoleWorld) -> None:
    """A trial arrives signed; pause and resume show at once; what was given up is put in the queue again."""
    world.open(page, "/webhooks")
    row = page.get_by_role("table", name="Endpoints").get_by_role("row", name=re.compile("^billing"))
    row.get_by_role("button", name="Test").click()
    _says(page, "The endpoint took a signed message of trial.")
    assert [message.type for message in world.receiver.received] == ["webhook.test"]
    row.get_by_role("button", name="Pause").click()
    _says(page, "Paused.")
    expect(row).to_contain_text("Paused by an operator")
    row.get_by_role("button", name="Resume").click()
    _says(page, "Resumed.")
    row.get_by_role("button", name="Send dead again").click()
    _says(page, "1 event will be sent again.")
    expect(page.get_by_role("table", name="Dead deliveries")).to_have_count(0)


def test_export_is_csv_that_no_spreadsheet_runs(page: Page, world: ConsoleWorld) -> None:
    """All that is looked for comes as CSV; a subject that a spreadsheet would take for a formula is kept from it."""
    world.installation.query(
        "UPDATE grants SET account = '=1+1', email = '@ada' WHERE subject = 'as-active' RETURNING id"
    )
    world.open(page, "/grants?state=active")
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Export as CSV").click()
    text = downloading.value.path().read_text(encoding="utf-8")
    lines = text.splitlines()
    [(active,)] = world.installation.query("SELECT count(*) FROM grants WHERE state = 'active'")
    assert len(lines) == active + 1
    assert lines[0].startswith("id,client,subject,account,email,state")
    assert ",other,as-active,'=1+1,'@ada,active," in text
    assert _audited(world, "grants.export") == ["done"]


def test_a_pressed_button_stays_pressed_while_its_page_keeps_fresh(page: Page, world: ConsoleWorld) -> None:
    """A second press of an act does nothing, though the page was brought up to date meanwhile."""
    pressed: list[str] = []

    def take(route: Route) -> None:
        pressed.append(route.request.url)
        route.fulfill(status=204)  # the page stays

    page.route("**/clients/other/pause", take)
    world.open(page, "/clients/other")
    button = page.get_by_role("button", name="Pause")
    button.click()
    for _time in range(2):  # when the second answer comes, the first is shown
        with page.expect_response(lambda answer: answer.url.endswith("/clients/other")):
            pass
    button.click()
    page.evaluate("() => new Promise(requestAnimationFrame)")
    assert len(pressed) == 1


def test_mails_to_many_go_on_by_themselves(page: Page, world: ConsoleWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """One press is enough, however many requests it takes: each page sends for the next part, and the last says all."""
    monkeypatch.setattr("worker.usecases.ask_owners.PAGE", 1)
    monkeypatch.setattr("worker.web.console.bulk_send.AT_ONCE", 1)
    world.installation.query("DELETE FROM reconsent_mails WHERE kind = 'operator' RETURNING id")
    before = len(_audited(world, "reconsent.send"))
    world.open(page, "/grants/reconsent")
    page.get_by_role("button", name=re.compile("^Send")).click()
    _says(page, "were asked for")
    [(needing,)] = world.installation.query("SELECT count(*) FROM grants WHERE state = 'reconsent_required'")
    [(asked,)] = world.installation.query("SELECT count(*) FROM reconsent_mails WHERE kind = 'operator'")
    # One entry for each request, and for each grant about which a mail was asked for.
    assert len(_audited(world, "reconsent.send")) - before == needing + 1 + asked


def test_api_token_is_made_shown_once_and_revoked(page: Page, world: ConsoleWorld) -> None:
    """A program is answered with what the page has shown, until it is revoked; the page never shows it again."""
    world.open(page, "/access")
    page.get_by_label("Who will hold it").fill("billing-service")
    page.get_by_label("Role").select_option("reader")
    page.get_by_label("Client").select_option("other")
    page.get_by_role("button", name="Make a token").click()
    made = page.get_by_role("region", name="This is the token")
    token = made.locator("code").inner_text()

    def status() -> int:
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.get(world.address("/v1/grants"), headers=headers, trust_env=False).status_code

    assert status() == 200
    page.goto(page.url)
    expect(made).to_have_count(0)
    assert token not in page.content()
    row = page.get_by_role("row", name=re.compile("^billing-service"))
    expect(row).to_contain_text("reader")
    expect(row).to_contain_text("other")

    row.locator("summary", has_text="Revoke").click()
    assert status() == 200
    row.get_by_role("button", name="Revoke it").click()
    _says(page, "Revoked.")
    expect(row).to_have_count(0)
    wait_until(lambda: status() == 401, 20, "the token is answered no more")
    for act in ("api_token.make", "api_token.revoke"):
        assert _audited(world, act) == ["done"]


def test_somebody_elses_session_is_ended(page: Page, world: ConsoleWorld, browser: Browser) -> None:
    """Whoever signs in meanwhile shows up by itself; “End” sends them back to where one signs in."""
    world.open(page, "/access/sessions")
    row = page.get_by_role("row", name=re.compile("^Grace"))
    expect(row).to_have_count(0)
    with browser.new_context() as elsewhere:
        world.served.sign_in(elsewhere, name="Grace")
        theirs = elsewhere.new_page()
        theirs.goto(world.address("/clients"))
        expect(theirs.get_by_role("heading", name="Clients")).to_be_visible()
        row.get_by_role("button", name="End").click()
        _says(page, "Ended.")
        expect(row).to_have_count(0)
        theirs.reload()
        expect(theirs.get_by_role("heading", name="Sign in")).to_be_visible()
    assert _audited(world, "session.end") == ["done"]


@pytest.mark.parametrize(("button", "act"), [("Sign out", "sign_out"), ("Sign out everywhere", "sign_out.everywhere")])
def test_whoever_signs_out_is_out(world: ConsoleWorld, browser: Browser, button: str, act: str) -> None:
    """Signing out ends the session of this browser, or those of every browser; no other person's."""
    with ExitStack() as windows:
        here, there, others = (windows.enter_context(browser.new_context()).new_page() for _ in range(3))
        for page, name in ((here, "Ada"), (there, "Ada"), (others, "Grace")):
            world.served.sign_in(page.context, name=name)
            page.goto(world.address("/clients"))
        here.locator("summary", has_text="Ada").click()
        here.get_by_role("button", name=button, exact=True).click()
        expect(here.get_by_role("heading", name="Sign in")).to_be_visible()
        here.go_back()
        stays = (others,) if button == "Sign out everywhere" else (others, there)
        for page in (here, there, others):
            page.goto(world.address("/clients"))
            expect(page.get_by_role("heading", level=1)).to_have_text("Clients" if page in stays else "Sign in")
    assert _audited(world, act) == ["done"]
