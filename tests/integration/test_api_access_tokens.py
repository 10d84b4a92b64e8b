"""Access tokens over the API: fresh ones for however many ask, and where there is none, why and what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.conftest import WebMaker
from tests.support.api import api, make_token, problem
from tests.support.database import end_other_sessions, execute, value
from tests.support.running_web import RunningWeb
from tests.support.sandbox_clients import SandboxClient, adopt, register
from tests.support.settling import claim
from worker.domain.secret import Secret
from worker.sandbox.behaviour import Behaviour, Latency
from worker.sandbox.profiles import ASKARA
from worker.sandbox.server import RunningSandbox


@pytest.fixture
def client(sandbox: RunningSandbox) -> SandboxClient:
    """Register a client."""
    return register(sandbox)


@pytest.fixture
def web(client: SandboxClient, make_web: WebMaker) -> Iterator[RunningWeb]:
    """Serve the API."""
    with make_web(client.toml, **client.environment) as running:
        yield running


@pytest.fixture
def http(web: RunningWeb) -> Iterator[httpx.Client]:
    """Open a client that may do everything."""
    with api(web) as opened:
        yield opened


def test_the_stored_token_is_given_by_id_and_by_subject(
    sandbox: RunningSandbox, web: RunningWeb, client: SandboxClient, http: httpx.Client
) -> None:
    """While it lives long enough the stored token is the answer to both questions, with what is left of its life."""
    [(grant_id, seeded)] = web.run(adopt(web.container, sandbox, client, due=False))

    by_id = http.get(f"/v1/grants/{grant_id}/access-token")
    by_subject = http.get("/v1/access-token", params={"client": client.name, "subject": seeded.account})
    refreshed = http.get(f"/v1/grants/{grant_id}/access-token", params={"min_ttl": 86_400 + 60}).json()

    found: dict[str, Any] = by_id.json()
    assert (by_id.headers["cache-control"], by_subject.json()["grant"]) == ("no-store", str(grant_id))
    assert found["access_token"] == by_subject.json()["access_token"] == seeded.access_token.reveal()
    assert (found["token_type"], found["generation"]) == ("Bearer", 0)
    assert 0 < seeded.expires_in - found["expires_in"] <= 60
    assert datetime.fromisoformat(found["expires_at"]).tzinfo is not None
    assert (refreshed["access_token"] == found["access_token"], refreshed["generation"]) == (False, 1)
    assert sandbox.control.account_of(Secret(refreshed["access_token"])) == seeded.account
    assert sandbox.control.report().refreshes_presented == 1
    problem(http.get("/v1/access-token", params={"client": client.name, "subject": "nobody"}), 404, "not-found")
    problem(http.get(f"/v1/grants/{uuid4()}/access-token"), 404, "not-found")


def test_a_connection_that_was_closed_costs_nobody_an_answer(
    sandbox: RunningSandbox, web: RunningWeb, client: SandboxClient, http: httpx.Client
) -> None:
    """After a failover has ended every session, the next question is answered as ever."""
    [(grant_id, _)] = web.run(adopt(web.container, sandbox, client, due=False))
    path = f"/v1/grants/{grant_id}/access-token"
    before = http.get(path)
    web.run(end_other_sessions(web.container))

    after = http.get(path)

    assert (before.status_code, after.status_code) == (200, 200)
    assert after.json()["access_token"] == before.json()["access_token"]


def test_two_hundred_who_ask_at_once_cost_one_refresh(sandbox: RunningSandbox, make_web: WebMaker) -> None:
    """For one grant whose token has ended, 200 concurrent requests to two processes get one new token."""
    client = register(sandbox, behaviour=Behaviour(access_lifetime=86_400, latency=Latency(fixed=0.5)), profile=ASKARA)
    with (
        make_web(client.toml, **client.environment) as web,
        make_web(client.toml, **client.environment) as other,
    ):
        [(grant_id, seeded)] = web.run(adopt(web.container, sandbox, client))
        headers = {"Authorization": f"Bearer {make_token(web)}"}

        async def ask_all() -> list[httpx.Response]:
            limits = httpx.Limits(max_connections=200)
            async with httpx.AsyncClient(trust_env=False, timeout=60, limits=limits, headers=headers) as http:
                urls = [f"{asked.url}/v1/grants/{grant_id}/access-token" for asked in (web, other)] * 100
                return await asyncio.gather(*(http.get(url) for url in urls))

        answers = asyncio.run(ask_all())

        assert [answer.status_code for answer in answers] == [200] * 200
        [token] = {answer.json()["access_token"] for answer in answers}
        assert sandbox.control.account_of(Secret(token)) == seeded.account
        assert web.run(value(web.container, "SELECT generation FROM grants")) == 1
    report = sandbox.control.report()
    assert (report.refreshes_presented, report.presented_more_than_once) == (1, 0)


@pytest.mark.parametrize(
    "told",
    [("reconsent_required", "grant-needs-owner"), ("paused", "grant-paused"), ("revoked", "grant-revoked")],
)
def test_a_grant_that_is_not_kept_alive_says_what_to_do(
    sandbox: RunningSandbox, web: RunningWeb, client: SandboxClient, http: httpx.Client, told: tuple[str, str]
) -> None:
    """Dead, paused and revoked are three different problems, each with the state and its reason."""
    state, kind = told
    [(grant_id, _)] = web.run(adopt(web.container, sandbox, client, due=False))
    change = "UPDATE grants SET state = :state, state_reason = 'invalid_grant', rotate_at = NULL"
    web.run(execute(web.container, change, state=state))

    for answer in (http.get(f"/v1/grants/{grant_id}/access-token"), http.post(f"/v1/grants/{grant_id}/refresh")):
        found = problem(answer, 409, kind)
        assert (found["grant"], found["state"], found["reason"]) == (str(grant_id), state, "invalid_grant")
    assert sandbox.control.report().refreshes_presented == 0


def test_a_death_that_the_question_finds_is_told_as_one(sandbox: RunningSandbox, make_web: WebMaker) -> None:
    """Where the refresh that was asked for ends the grant, the answer is that its owner is needed."""
    client = register(sandbox, provider="strikes = 1")
    with make_web(client.toml, **client.environment) as web, api(web) as http:
        [(grant_id, seeded)] = web.run(adopt(web.container, sandbox, client))
        sandbox.control.revoke_consent(client.name, seeded.account)

        problem(http.get(f"/v1/grants/{grant_id}/access-token"), 409, "grant-needs-owner")


def test_a_grant_in_doubt_serves_its_token_and_then_asks_for_patience(
    sandbox: RunningSandbox, web: RunningWeb, client: SandboxClient, http: httpx.Client
) -> None:
    """In doubt, the stored token is given while it lives; after its end the answer is 503, to be asked again."""
    [(grant_id, seeded)] = web.run(adopt(web.container, sandbox, client, due=False))
    web.run(execute(web.container, "UPDATE grants SET rotate_at = now()"))
    web.run(claim(web.container, client, 1, timedelta(milliseconds=1)))
    web.run(web.container.dispatch.dispatch())
    path = f"/v1/grants/{grant_id}/access-token"

    assert http.get(path).json()["access_token"] == seeded.access_token.reveal()
    web.run(execute(web.container, "UPDATE grants SET access_expires_at = now()"))
    answer = http.get(path)

    assert problem(answer, 503, "grant-in-doubt")["reason"] == "worker_died"
    assert int(answer.headers["retry-after"]) > 0
    assert sandbox.control.report().refreshes_presented == 0


@pytest.mark.parametrize(
    "held_by",
    [
        ("paused_by_operator = true", "client-paused", 60),
        ("throttled_until = now() + interval '90 seconds'", "client-held-back", 90),
        ("breaker_opened_at = now(), breaker_reason = 'invalid_client'", "client-held-back", 60),
    ],
    ids=["operator", "throttle", "breaker"],
)
def test_a_client_that_is_held_back_says_by_what(
    sandbox: RunningSandbox, web: RunningWeb, client: SandboxClient, http: httpx.Client, held_by: tuple[str, str, int]
) -> None:
    """Stored tokens are given on; where a refresh is needed the answer names the client and when to ask again."""
    condition, kind, most = held_by
    [(grant_id, _)] = web.run(adopt(web.container, sandbox, client, due=False))
    web.run(execute(web.container, "INSERT INTO client_status (client) VALUES (:client)", client=client.name))
    web.run(execute(web.container, f"UPDATE client_status SET {condition}"))

    assert http.get(f"/v1/grants/{grant_id}/access-token").status_code == 200
    for answer in (
        http.get(f"/v1/grants/{grant_id}/access-token", params={"min_ttl": 86_400 * 2}),
        http.post(f"/v1/grants/{grant_id}/refresh"),
    ):
        assert problem(answer, 503, kind)["client"] == client.name
        assert most - 30 <= int(answer.headers["retry-after"]) <= most
    assert sandbox.control.report().refreshes_presented == 0


def test_a_token_that_does_not_open_names_the_key(
    sandbox: RunningSandbox, web: RunningWeb, client: SandboxClient, http: httpx.Client
) -> None:
    """A row that was altered is a 500 that says which, and shows nothing of it."""
    [(grant_id, _)] = web.run(adopt(web.container, sandbox, client, due=False))
    web.run(execute(web.container, "UPDATE grants SET access_token = set_byte(access_token, 40, 0)"))

    found = problem(http.get(f"/v1/grants/{grant_id}/access-token"), 500, "internal")

    assert f"grants.access_token of {grant_id} does not open with key 'test'" in found["detail"]
