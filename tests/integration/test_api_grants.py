"""Grants over the API: adopted, listed in pages, read, changed; and bad requests, each with a clear problem."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from tests.conftest import WebMaker
from tests.support.api import api, problem
from tests.support.database import everything_in, execute, value
from tests.support.running_web import RunningWeb
from tests.support.sandbox_clients import SandboxClient, adopt, register
from tests.support.tcp_proxy import TcpProxy
from worker.domain.grant import GrantState
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


def test_a_grant_is_adopted_once_and_gives_its_token(
    sandbox: RunningSandbox, web: RunningWeb, client: SandboxClient, http: httpx.Client
) -> None:
    """POST answers with the grant and where it is; a second time it names the first one and changes nothing."""
    [seeded] = sandbox.control.seed_grants(client.name, 1)
    wanted: dict[str, Any] = {
        "client": client.name,
        "subject": "customer-42",
        "refresh_token": seeded.refresh_token.reveal(),
        "access_token": seeded.access_token.reveal(),
        "expires_in": seeded.expires_in,
        "email": "ada@example.com",
    }

    adopted = http.post("/v1/grants", json=wanted)
    again = problem(http.post("/v1/grants", json={**wanted, "refresh_token": "x"}), 409, "grant-exists")

    assert adopted.status_code == 201
    grant = adopted.json()
    assert adopted.headers["location"] == f"/v1/grants/{grant['id']}"
    assert again["grant"] == grant["id"]
    assert (grant["client"], grant["subject"], grant["email"]) == (client.name, "customer-42", "ada@example.com")
    assert (grant["state"], grant["generation"], grant["last_error"]) == ("active", 0, None)
    assert http.get(adopted.headers["location"]).json() == grant
    token = http.get(f"/v1/grants/{grant['id']}/access-token").json()
    assert token["access_token"] == seeded.access_token.reveal()
    stored = web.run(everything_in(web.container, "grants"))
    for secret in (seeded.access_token.reveal(), seeded.refresh_token.reveal()):
        assert secret not in stored
        assert secret not in adopted.text + json.dumps(again)


def test_pages_hold_every_grant_once(
    sandbox: RunningSandbox, web: RunningWeb, client: SandboxClient, http: httpx.Client
) -> None:
    """Going from page to page by `next` finds every grant once, in order, and filters hold on each page."""
    web.run(adopt(web.container, sandbox, client, 7, due=False))
    web.run(
        execute(
            web.container,
            "UPDATE grants SET state = 'paused', rotate_at = NULL WHERE subject IN ('account-2', 'account-5')",
        )
    )

    def pages(**query: Any) -> list[list[str]]:
        found, cursor = [], None
        while True:
            page = http.get("/v1/grants", params={**query, **({"cursor": cursor} if cursor else {})}).json()
            found.append([grant["subject"] for grant in page["items"]])
            cursor = page["next"]
            if cursor is None:
                return found

    every = [f"account-{number}" for number in range(1, 8)]
    assert pages(limit=3) == [every[:3], every[3:6], every[6:]]
    assert pages(limit=7) == [every]
    assert pages(state="paused", limit=1) == [["account-2"], ["account-5"]]
    assert pages(client="nobody's") == [[]]


def test_where_an_owner_can_be_reached_is_changed_and_taken_away(
    sandbox: RunningSandbox, web: RunningWeb, client: SandboxClient, http: httpx.Client
) -> None:
    """PATCH changes what it names: an address replaces, null removes, and nothing at all leaves all as it is."""
    [(grant_id, _)] = web.run(adopt(web.container, sandbox, client, due=False))
    path = f"/v1/grants/{grant_id}"

    assert http.patch(path, json={"email": "ada@example.com"}).json()["email"] == "ada@example.com"
    assert http.patch(path, json={}).json()["email"] == "ada@example.com"
    assert http.patch(path, json={"email": None}).json()["email"] is None
    problem(http.patch(path, json={"subject": "other"}), 422, "request-invalid")
    problem(http.patch(f"/v1/grants/{uuid4()}", json={"email": None}), 404, "not-found")


def test_the_last_error_and_the_state_are_told(
    sandbox: RunningSandbox, web: RunningWeb, client: SandboxClient, http: httpx.Client
) -> None:
    """A grant that the provider refuses says why, with the provider's own code, and never the token."""
    [(grant_id, seeded)] = web.run(adopt(web.container, sandbox, client))
    sandbox.control.revoke_consent(client.name, seeded.account)

    refused = problem(http.post(f"/v1/grants/{grant_id}/refresh"), 503, "refresh-failed")
    again = http.get(f"/v1/grants/{grant_id}/access-token", params={"min_ttl": 86_400})
    assert problem(again, 503, "refresh-failed")["reason"] == "invalid_grant"
    assert 60 < int(again.headers["retry-after"]) <= 120, "not before the strike's interval is over"

    assert refused["reason"] == "invalid_grant"
    last_error = http.get(f"/v1/grants/{grant_id}").json()["last_error"]
    assert (last_error["reason"], last_error["code"], last_error["status"]) == ("invalid_grant", "invalid_grant", 400)


def test_a_refresh_that_the_provider_would_refuse_is_not_sent(sandbox: RunningSandbox, make_web: WebMaker) -> None:
    """It is a conflict that says when to come again; the stored token is good and is given out meanwhile."""
    early = register(sandbox, provider='earliest_margin = "30s"')
    with make_web(early.toml, **early.environment) as web, api(web) as http:
        [(grant_id, seeded)] = web.run(adopt(web.container, sandbox, early, due=False))
        ends = "UPDATE grants SET issued_at = now(), access_expires_at = now() + interval '10 min'"
        web.run(execute(web.container, ends))

        refused = http.post(f"/v1/grants/{grant_id}/refresh")
        given = http.get(f"/v1/grants/{grant_id}/access-token", params={"min_ttl": 3000}).json()

        problem(refused, 409, "refresh-too-early")
        assert 500 < int(refused.headers["Retry-After"]) <= 576
        assert given["access_token"] == seeded.access_token.reveal()
    assert sandbox.control.report().refreshes_presented == 0


@pytest.mark.parametrize(
    ("wanted", "complaint"),
    [
        ({"subject": None}, ("#/subject", "valid string")),
        ({"subject": ""}, ("#/subject", "at least 1 character")),
        ({"subject": "a\x00b"}, ("#/subject", "printable")),
        ({"subject": "a" * 201}, ("#/subject", "at most 200")),
        ({"refresh_token": ""}, ("#/refresh_token", "at least 1")),
        ({"expires_in": 0}, ("#/expires_in", "greater than or equal to 1")),
        ({"expires_in": 10**30}, ("#/expires_in", "less than or equal")),
        ({"email": "nobody"}, ("#/email", "not an e-mail address")),
        ({"email": "a@b\r\nBcc: c@d"}, ("#/email", "not an e-mail address")),
        ({"owner": "ada"}, ("#/owner", "not permitted")),
    ],
)
def test_what_is_wrong_is_named_and_not_repeated(
    http: httpx.Client, web: RunningWeb, client: SandboxClient, wanted: dict[str, Any], complaint: tuple[str, str]
) -> None:
    """A request that does not fit is answered with the place and the fault, never with what was sent as a token."""
    body = {"client": client.name, "subject": "customer-42", "refresh_token": "a secret token", **wanted}

    answer = http.post("/v1/grants", json=body)

    [error] = problem(answer, 422, "request-invalid")["errors"]
    pointer, said = complaint
    assert error["pointer"] == pointer
    assert said in error["detail"]
    assert "a secret token" not in answer.text
    assert web.run(value(web.container, "SELECT count(*) FROM grants")) == 0


def test_all_that_is_known_of_a_grant_is_adopted(http: httpx.Client, client: SandboxClient) -> None:
    """Ends, scopes, account and consent come along; an access token that has ended is no reason to refuse."""
    body = {
        "client": client.name,
        "subject": "customer-42",
        "refresh_token": "rt",
        "access_token": "at",
        "access_expires_at": "2026-01-01T00:00:00Z",
        "refresh_expires_at": "2199-01-01T00:00:00Z",
        "scopes": ["profile"],
        "account": "17",
        "consented_at": "2025-12-31T23:00:00-01:00",
    }

    grant = http.post("/v1/grants", json=body).json()

    same = ("access_expires_at", "refresh_expires_at", "scopes", "account")
    assert {name: grant[name] for name in same} == {name: body[name] for name in same}
    assert grant["consented_at"] == "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("wanted", "complaint"),
    [
        ({"expires_in": 60, "access_expires_at": "2199-01-01T00:00:00Z"}, ("#/expires_in", "give one of them")),
        ({"refresh_expires_at": "2020-01-01T00:00:00Z"}, ("#/refresh_expires_at", "has to authorize again")),
        ({"consented_at": "2199-01-01T00:00:00Z"}, ("#/consented_at", "in the future")),
        ({"access_token": "a secret token\n"}, ("#/access_token", "white space")),
        ({"captured": {"shop": "a secret token"}}, ("#/captured", "keeps nothing under")),
    ],
)
def test_what_cannot_be_kept_alive_is_refused(
    http: httpx.Client, web: RunningWeb, client: SandboxClient, wanted: dict[str, Any], complaint: tuple[str, str]
) -> None:
    """What fits the document and still makes no grant is named by its place, as in an import."""
    body = {"client": client.name, "subject": "customer-42", "refresh_token": "a secret token", **wanted}

    answer = http.post("/v1/grants", json=body)

    [error] = problem(answer, 422, "request-invalid")["errors"]
    assert error["pointer"] == complaint[0]
    assert complaint[1] in error["detail"]
    assert "a secret token" not in answer.text
    assert web.run(value(web.container, "SELECT count(*) FROM grants")) == 0


def test_one_refresh_token_is_not_adopted_twice(http: httpx.Client, web: RunningWeb, client: SandboxClient) -> None:
    """Under another subject it is refused, and whose it is stays hidden from whoever sees one client only."""
    body = {"client": client.name, "subject": "customer-42", "refresh_token": "a secret token"}
    grant = http.post("/v1/grants", json=body).json()
    renamed = {**body, "subject": "renamed"}

    taken = problem(http.post("/v1/grants", json=renamed), 409, "grant-exists")
    with api(web, client=client.name) as bound:
        hidden = problem(bound.post("/v1/grants", json=renamed), 409, "grant-exists")

    assert taken["grant"] == grant["id"]
    assert "grant" not in hidden
    assert web.run(value(web.container, "SELECT count(*) FROM grants")) == 1


def test_a_client_that_is_not_configured_adopts_nothing(http: httpx.Client) -> None:
    """A slip in the client's name is answered with the nearest one that there is."""
    body = {"client": "askara-tset", "subject": "customer-42", "refresh_token": "a secret token"}

    found = problem(http.post("/v1/grants", json=body), 409, "client-not-configured")

    assert found["detail"] == "Client 'askara-tset' is not configured (did you mean 'askara-test'?)."


def test_a_body_that_is_no_request_is_a_problem(http: httpx.Client) -> None:
    """Text that is no JSON, no UTF-8, no object or too long is said to be so; so are bad queries and ids."""
    kind = {"Content-Type": "application/json"}
    for content in (b"{", b'"\xff"', b"[]", b"null", b""):
        problem(http.post("/v1/grants", content=content, headers=kind), 422, "request-invalid")
    problem(http.post("/v1/grants", content=b"{}", headers={"Content-Type": "text/plain"}), 422, "request-invalid")
    long = b" " * (256 * 1024 + 1)
    problem(http.post("/v1/grants", content=long, headers=kind), 413, "request-too-large")
    problem(http.post("/v1/grants", content=iter([long]), headers=kind), 413, "request-too-large")
    for query in ({"cursor": "nonsense"}, {"cursor": "WzFd"}, {"limit": 0}, {"limit": 501}, {"state": "asleep"}):
        [error] = problem(http.get("/v1/grants", params=query), 422, "request-invalid")["errors"]
        assert error["parameter"] == next(iter(query))
    problem(http.get("/v1/grants/not-an-id"), 422, "request-invalid")
    problem(http.get(f"/v1/grants/{uuid4()}"), 404, "not-found")


def test_without_the_database_it_is_said_when_to_come_back(
    sandbox: RunningSandbox, client: SandboxClient, make_web: WebMaker, database_url: str
) -> None:
    """While the database is away every route answers 503 with Retry-After, and afterwards as before."""
    with (
        TcpProxy(database_url) as database,
        make_web(client.toml, database=database.url, **client.environment) as web,
        api(web) as http,
    ):
        [(grant_id, _)] = web.run(adopt(web.container, sandbox, client, due=False))
        database.refuse()
        for path in ("/v1/grants", f"/v1/grants/{grant_id}/access-token", "/v1/clients", "/v1/events"):
            answer = http.get(path)
            problem(answer, 503, "database-away")
            assert answer.headers["retry-after"] == "5"
        database.accept()
        assert http.get(f"/v1/grants/{grant_id}").json()["state"] == GrantState.ACTIVE
        assert UUID(http.get("/v1/grants").json()["items"][0]["id"]) == grant_id
