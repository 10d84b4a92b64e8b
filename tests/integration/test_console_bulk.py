"""Mails to many owners from the console: part by part, about those that were chosen alone, each in the audit log."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from tests.conftest import WebMaker
from tests.support.database import execute, rows, value
from tests.support.mailing import CONFIGURATION, dead
from tests.support.running_web import RunningWeb
from tests.support.signing_in import signed_in
from worker.domain.roles import Role
from worker.web.console import bulk_send

PATH = "/grants/reconsent"
#: Nobody connects there: mails are asked for, and no worker sends them.
SMTP = "smtp://127.0.0.1:9"


@pytest.fixture
def web(make_web: WebMaker) -> Iterator[RunningWeb]:
    """Serve an installation with two clients."""
    with make_web(CONFIGURATION, smtp_url=SMTP) as running:
        yield running


def entries(web: RunningWeb) -> list[tuple[object, ...]]:
    """Return what the audit log says of mails: the client, the grant's subject, and how many."""
    query = "SELECT client, subject, details FROM audit_log WHERE act = 'reconsent.send' ORDER BY id"
    return [tuple(row) for row in web.run(rows(web.container, query))]


def hidden(page: httpx.Response) -> dict[str, str]:
    """Return the hidden fields of a page's form that goes on."""
    form = page.text[page.text.index('id="go-on"') :]
    return dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form))


def test_many_are_mailed_part_by_part(web: RunningWeb, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request looks at a part and leads to the next; parts and grants are in the log, nobody is mailed twice."""
    monkeypatch.setattr("worker.usecases.ask_owners.PAGE", 2)
    monkeypatch.setattr(bulk_send, "AT_ONCE", 4)
    grants = [web.run(dead(web.container, f"owner-{number}")) for number in range(6)]
    without = web.run(dead(web.container, "without", email=None))
    with signed_in(web) as http:
        first = http.post(PATH)
        assert (first.status_code, "4 of about 7" in first.text, "/static/go_on.js" in first.text) == (200, True, True)
        last = http.post(PATH, data=hidden(first))
        assert last.headers["location"] == f"{PATH}?said=asked&count=6&left=1"
        # A page that is loaded again says the same again.
        assert http.post(PATH, data=hidden(first)).headers["location"] == last.headers["location"]
        result = http.get(last.headers["location"]).text
        assert "Nothing has been sent" not in result
        assert ("Who has a mail already" in result, "Who is left out" in result) == (True, True)
        told = "<span>Ada had its owner mailed</span>"
        lives = [http.get(f"/grants/{grant_id}").text.count(told) for grant_id in (*grants, without)]
        assert lives == [1] * 6 + [0]
    assert web.run(value(web.container, "SELECT count(*) FROM reconsent_mails")) == 6
    owners: list[tuple[object, ...]] = [("acme-main", f"owner-{number}", {}) for number in range(6)]
    assert entries(web) == [
        *owners[:4],
        (None, None, {"grants": 4, "left_out": 0}),
        *owners[4:],
        (None, None, {"grants": 2, "left_out": 1}),
        (None, None, {"grants": 0, "left_out": 3}),
    ]


def test_who_was_chosen_is_in_the_log_and_nobody_chosen_is_nobody(web: RunningWeb) -> None:
    """Each chosen grant has its own entry, under its own client, whatever the form says; an empty choice is refused."""
    chosen = web.run(dead(web.container, "chosen"))
    web.run(dead(web.container, "other"))
    with signed_in(web, Role.OPERATOR, client="acme-main") as http:
        assert http.get(PATH, params={"chosen": "1"}).status_code == 400
        assert http.post(PATH, data={"chosen": "1"}).status_code == 400
        assert web.run(value(web.container, "SELECT count(*) FROM reconsent_mails")) == 0
        preview = http.get(PATH, params={"chosen": "1", "id": str(chosen)}).text
        assert "1 grant was looked at" in preview
        sent = http.post(PATH, data={"chosen": "1", "id": str(chosen), "client": "acme-crm"})
        assert sent.headers["location"] == f"{PATH}?said=asked&count=1&left=0&client=acme-main&id={chosen}"
        assert http.post(PATH, data={"client": "acme-crm"}).status_code == 403
    assert [entry[:2] for entry in entries(web)] == [
        (None, None),
        ("acme-main", "chosen"),
        ("acme-main", None),
        (None, None),
    ]
    assert web.run(value(web.container, "SELECT count(*) FROM reconsent_mails")) == 1


def test_the_same_choice_twice_counts_once(web: RunningWeb) -> None:
    """A form that is sent again says what came of it the first time; one that was begun later mails nobody again."""
    chosen = web.run(dead(web.container, "chosen"))
    with signed_in(web) as http:
        preview = http.get(PATH, params={"chosen": "1", "id": str(chosen)}).text
        form = dict(re.findall(r'type="hidden" name="(id|chosen|begun)" value="([^"]*)"', preview))
        for _time in range(2):
            assert "count=1&left=0" in http.post(PATH, data=form).headers["location"]
        assert "count=0&left=1" in http.post(PATH, data={"chosen": "1", "id": str(chosen)}).headers["location"]
        assert http.post(PATH, data={**form, "begun": "2026-01-01T00:00:00"}).status_code in {400, 422}
    assert web.run(value(web.container, "SELECT count(*) FROM reconsent_mails")) == 1


def test_mails_that_the_brake_holds_say_so(web: RunningWeb) -> None:
    """While a client is braked its mails wait, and neither the result nor the list leaves that out."""
    for number in range(2):
        web.run(dead(web.container, f"owner-{number}"))
    brake = """
        INSERT INTO client_status (client, braked_at) VALUES ('acme-main', now())
        ON CONFLICT (client) DO UPDATE SET braked_at = now()
    """
    with signed_in(web) as http:
        assert "brake" not in http.get(PATH).text
        web.run(execute(web.container, brake))
        result = http.get(http.post(PATH).headers["location"]).text
        assert "2 of them wait until the brake of their client is off." in result
        assert http.get("/mails").text.count("waits until the brake of its client is off") == 2
        web.run(execute(web.container, "UPDATE client_status SET braked_at = NULL"))
        assert http.get("/mails").text.count("waits to be sent") == 2


def test_a_preview_counts_both_kinds(web: RunningWeb, monkeypatch: pytest.MonkeyPatch) -> None:
    """Grants that need their owner, and living ones whose consent ends soon, are counted apart, cut or not."""
    web.run(dead(web.container, "dead"))
    for number in range(2):
        soon = web.run(dead(web.container, f"soon-{number}"))
        web.run(
            execute(
                web.container,
                """
                WITH one AS (UPDATE grants SET state = 'active', state_reason = NULL, rotate_at = now() WHERE id = :id
                             RETURNING *)
                INSERT INTO reconsent_mails (id, grant_id, client, subject, death, kind, recipient, state)
                SELECT gen_random_uuid(), id, client, subject, now() + interval '3 days', 'expiring', email, 'sent'
                  FROM one
                """,
                id=soon,
            )
        )
    with signed_in(web) as http:
        assert "3 grants were looked at: 1 that need their owner, 2 whose consent ends soon" in http.get(PATH).text
        monkeypatch.setattr("worker.web.console.bulk_page.PREVIEWED", 1)
        cut = http.get(PATH, params={"client": "acme-main"}).text
        assert "Of 1 grants that need their owner and 2 whose consent ends soon" in cut
