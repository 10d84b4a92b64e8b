"""What pages of the console advise, and what they say where nothing is shown: true for this installation."""

from __future__ import annotations

from uuid import UUID

import pytest

from tests.conftest import WebMaker
from tests.support.database import execute, rows, value
from tests.support.mailing import CONFIGURATION, dead
from tests.support.running_web import RunningWeb
from tests.support.signing_in import signed_in
from worker.domain.roles import Role

#: Nobody connects there.
SMTP = "smtp://127.0.0.1:9"
MANUAL = CONFIGURATION.replace('client_id = "acme-crm"', 'client_id = "b"\nreconsent_mails = "manual"')


def refused(web: RunningWeb, times: int) -> UUID:
    """Add a living grant whose refresh token was refused so often."""
    grant_id = web.run(dead(web.container, f"refused-{times}"))
    web.run(
        execute(
            web.container,
            "UPDATE grants SET state = 'active', state_reason = NULL, rotate_at = now() + interval '1 hour',"
            " strikes = :times, last_error = 'invalid_grant', last_error_at = now() WHERE id = :id",
            id=grant_id,
            times=times,
        )
    )
    return grant_id


def test_whoever_is_mailed_by_hand_alone_is_named(make_web: WebMaker) -> None:
    """Where a client's mails are sent by hand, the overview does not say that its owners are mailed."""
    with make_web(MANUAL, smtp_url=SMTP) as web, signed_in(web) as http:
        web.run(dead(web.container, "by hand", client="acme-crm"))
        alone = http.get("/").text
        web.run(dead(web.container, "automatic"))
        both = http.get("/").text
    assert "Owners of acme-crm are mailed only when you say so" in alone
    assert "automatically" not in alone
    assert "Owners of acme-crm are mailed only when you say so" in both
    assert "Owners are mailed automatically" in both


def test_a_grant_page_advises_what_can_be_done(make_web: WebMaker) -> None:
    """It counts refusals as they are, and sends nobody to a button that is not there for want of a mail server."""
    strikes = CONFIGURATION.replace('client_auth = "none"', 'client_auth = "none"\nstrikes = 3', 1)
    with make_web(strikes) as web, signed_in(web) as http:
        once, twice = refused(web, 1), refused(web, 2)
        gone = web.run(dead(web.container, "gone"))
        pages = [http.get(f"/grants/{grant_id}").text for grant_id in (once, twice, gone)]
    assert "refused once" in pages[0]
    assert "asked 2 times more" in pages[0]
    assert "refused 2 times" in pages[1]
    assert "asked once more" in pages[1]
    assert "No mail can be sent: set EVERGRANT_SMTP_URL" in pages[2]
    assert "Send its owner a re-consent mail" not in pages[2]


def test_a_consent_that_ends_soon_leads_to_its_owner(make_web: WebMaker) -> None:
    """Where the button is offered, the page says why; then that a mail is on its way, and when the owner was mailed."""
    with make_web(CONFIGURATION, smtp_url=SMTP) as web, signed_in(web) as http:
        grant_id = refused(web, 0)
        assert "its consent ends soon" not in http.get(f"/grants/{grant_id}").text
        ending = """
            INSERT INTO reconsent_mails (id, grant_id, client, subject, death, kind, recipient, state)
            SELECT gen_random_uuid(), id, client, subject, now() + interval '6 days', 'expiring', email, 'noted'
              FROM grants
        """
        web.run(execute(web.container, ending))
        before = http.get(f"/grants/{grant_id}").text
        http.post(f"/grants/{grant_id}/reconsent")
        asked = http.get(f"/grants/{grant_id}").text
        sending = """
            UPDATE reconsent_mails
               SET state = 'sent', message_id = gen_random_uuid(), sent_at = now() - interval '1 hour'
             WHERE kind = 'operator'
        """
        web.run(execute(web.container, sending))
        mailed = http.get(f"/grants/{grant_id}").text
    for page, said in (
        (before, "Send its owner a re-consent mail."),
        (asked, "Nothing to do: a mail to its owner is on its way."),
        (mailed, "has not come back yet. You can mail again."),
    ):
        assert "Kept alive, but its consent ends soon" in page
        assert said in page
    assert ("Send re-consent mail" in before, "Send re-consent mail" in asked) == (True, False)


def test_an_owners_address_is_set(make_web: WebMaker) -> None:
    """An address is set, corrected and taken away; what is none changes nothing, and each is in the audit log."""
    with make_web(CONFIGURATION) as web, signed_in(web, Role.OPERATOR) as http:
        grant_id = web.run(dead(web.container, "owner"))
        for typed, said, stored in (
            (" ada@example.com ", "email_set", "ada@example.com"),
            ("ada at example", "no_address", "ada@example.com"),
            ("ada@example.com\r\nBcc: all@example.com", "no_address", "ada@example.com"),
            ("", "email_set", None),
        ):
            answer = http.post(f"/grants/{grant_id}/email", data={"email": typed})
            assert answer.headers["location"] == f"/grants/{grant_id}?said={said}"
            assert web.run(value(web.container, "SELECT email FROM grants")) == stored
        query = "SELECT outcome, details FROM audit_log WHERE act = 'grant.change' ORDER BY id"
        entries = web.run(rows(web.container, query))
    assert [entry.outcome for entry in entries] == ["done", "failed", "failed", "done"]
    assert {str(entry.details) for entry in entries} == {"{'changed': ['email']}"}


def test_scopes_that_were_taken_away_are_shown(make_web: WebMaker) -> None:
    """A grant that is kept alive with fewer scopes says so in the list and on its page: which, and what to do."""
    with make_web(CONFIGURATION) as web, signed_in(web) as http:
        grant_id = refused(web, 0)
        assert "fewer scopes than before" not in http.get("/grants").text
        web.run(execute(web.container, "UPDATE grants SET lost_scopes = '{invoices,contacts}'"))
        page = http.get(f"/grants/{grant_id}").text
        assert "Acme no longer gives invoices, contacts." in page
        assert "/connect/acme-main?subject=" in page
        assert "fewer scopes than before" in http.get("/grants").text


@pytest.mark.parametrize("role", [Role.READER, Role.ADMIN])
def test_an_empty_list_says_why(make_web: WebMaker, role: Role) -> None:
    """That there are no grants is said where there are none, not of an order or a page that has none any more."""
    with make_web(CONFIGURATION) as web, signed_in(web, role) as http:
        assert "No grants yet" in http.get("/grants").text
        web.run(dead(web.container, "only"))
        due = http.get("/grants?sort=due").text
        assert "None of these is to be refreshed" in due
        assert 'href="/grants"' in due
        cursor = "WyJ6eiIsInp6Il0"  # behind client and subject "zz"
        behind = http.get("/grants", params={"after": cursor, "client": "acme-main"}).text
        assert "Nothing is on this page any more" in behind
        assert 'href="/grants?client=acme-main">First page' in behind
        assert "No grants yet" not in due + behind


def test_an_export_is_in_the_log_of_its_client(make_web: WebMaker) -> None:
    """Who is bound to a client exports its grants, and its admin sees that; what was looked for by text is not kept."""
    with make_web(CONFIGURATION) as web, signed_in(web, Role.READER, client="acme-main") as http:
        http.get("/grants.csv", params={"q": "ada@example.com", "state": "active", "client": "acme-crm"})
        query = "SELECT client, details FROM audit_log WHERE act = 'grants.export'"
        [entry] = web.run(rows(web.container, query))
    assert (entry.client, entry.details) == ("acme-main", {"state": "active", "by_text": True})
