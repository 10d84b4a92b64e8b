"""POST /v1/grants/{id}/reconsent: an operator's program has one owner mailed."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest

from tests.conftest import WebMaker
from tests.support.api import api, once, problem
from tests.support.database import execute
from tests.support.mail_server import MailServer
from tests.support.mailing import CONFIGURATION, ROUND, alive, dead
from worker.domain.roles import Role


@pytest.fixture
def server() -> Iterator[MailServer]:
    """Run a mail server."""
    with MailServer() as running:
        yield running


def test_an_owner_is_mailed_once(make_web: WebMaker, server: MailServer) -> None:
    """The answer names the mail and where it goes; the same request again is answered the same, another one refused."""
    with make_web(CONFIGURATION, smtp_url=server.url) as web, api(web, Role.OPERATOR) as http:
        grant_id = web.run(dead(web.container, "customer-42"))
        path, key = f"/v1/grants/{grant_id}/reconsent", once()

        answers = [http.post(path, headers=key) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [202, 202]
        assert answers[0].json() == answers[1].json()
        asked = answers[0].json()
        assert (asked["grant"], asked["recipient"], asked["held"]) == (str(grant_id), "customer-42@example.com", False)
        assert problem(http.post(path), 409, "mail-not-sent")["reason"] == "under_way"

        web.run(web.container.mails.round(ROUND))
        assert problem(http.post(path), 409, "mail-not-sent")["reason"] == "asked_before"
        [event] = [event for event in http.get("/v1/events").json()["items"] if event["grant"] == str(grant_id)]
        assert (event["type"], event["data"]["mail"]) == ("grant.reconsent_mailed", asked["id"])
        assert len(server.received) == 1
        metrics = httpx.get(f"{web.url}/metrics", trust_env=False).text
        assert 'evergrant_reconsent_mails_total{client="acme-main",outcome="sent"} 1.0' in metrics


def test_who_cannot_be_mailed_is_a_problem_with_the_reason(make_web: WebMaker, server: MailServer) -> None:
    """Not needed, no address, no such grant, another client's; while its client is braked a mail is held."""
    with make_web(CONFIGURATION, smtp_url=server.url) as web, api(web, Role.OPERATOR, client="acme-main") as http:
        healthy = web.run(dead(web.container, "healthy"))
        web.run(alive(web.container, healthy))
        without = web.run(dead(web.container, "without", email=None))
        foreign = web.run(dead(web.container, "foreign", client="acme-crm"))
        held = web.run(dead(web.container, "held"))
        web.run(execute(web.container, "INSERT INTO client_status (client, braked_at) VALUES ('acme-main', now())"))

        for grant_id, reason in ((healthy, "not_needed"), (without, "no_address")):
            found = problem(http.post(f"/v1/grants/{grant_id}/reconsent"), 409, "mail-not-sent")
            assert (found["grant"], found["reason"]) == (str(grant_id), reason)
        for grant_id in (foreign, uuid4()):
            problem(http.post(f"/v1/grants/{grant_id}/reconsent"), 404, "not-found")
        assert http.post(f"/v1/grants/{held}/reconsent").json()["held"] is True
        web.run(web.container.mails.round(ROUND))
        assert server.received == []


def test_without_a_mail_server_it_says_what_to_set(make_web: WebMaker) -> None:
    """Nothing is queued that nobody would send."""
    with make_web(CONFIGURATION) as web, api(web, Role.OPERATOR) as http:
        grant_id = web.run(dead(web.container, "customer-42"))
        found = problem(http.post(f"/v1/grants/{grant_id}/reconsent"), 409, "no-mail-server")
        assert "EVERGRANT_SMTP_URL" in found["detail"]
