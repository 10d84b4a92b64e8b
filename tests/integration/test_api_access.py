"""Who may do what over the API: every route with every role, a foreign client, and what is no good token."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from tests.conftest import WebMaker
from tests.support.api import api, make_token, once, problem
from tests.support.database import execute, value
from tests.support.running_web import RunningWeb
from tests.support.sandbox_clients import adopt, register
from worker.domain.roles import Role
from worker.sandbox.server import RunningSandbox
from worker.web.api.access import NEEDED
from worker.web.api.application import api_routes


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """A web process with a client of ours and one of somebody else's, and a grant of each."""

    web: RunningWeb
    ours: str
    theirs: str
    our_grant: UUID
    their_grant: UUID


@pytest.fixture
def deployed(sandbox: RunningSandbox, make_web: WebMaker) -> Iterator[Deployed]:
    """Give a web process with two clients."""
    ours, theirs = register(sandbox, name="ours"), register(sandbox, name="theirs")
    with make_web(ours.toml + theirs.toml, **ours.environment) as web:
        [(our_grant, _)] = web.run(adopt(web.container, sandbox, ours, due=False))
        [(their_grant, _)] = web.run(adopt(web.container, sandbox, theirs, due=False))
        yield Deployed(web=web, ours="ours", theirs="theirs", our_grant=our_grant, their_grant=their_grant)


def send(http: httpx.Client, method: str, path: str, *, client: str, grant: UUID) -> httpx.Response:
    """Call a route about a client and its grant, with whatever it needs to be accepted."""
    body: dict[str, Any] | None = None
    if (method, path) == ("POST", "/v1/grants"):
        body = {"client": client, "subject": uuid4().hex, "refresh_token": uuid4().hex, "access_token": uuid4().hex}
    elif method == "PATCH":
        body = {"email": "owner@example.com"}
    query = {"client": client, "subject": "account-1"} if path == "/v1/access-token" else {}
    return http.request(method, path.format(grant_id=grant, client=client), json=body, params=query)


ROUTES = sorted(NEEDED)
#: In an order in which none stands in another's way.
IN_TURN = sorted(ROUTES, key=lambda route: (route[0] == "DELETE", route[1].endswith(("/pause", "/resume")), route))


def is_done(answer: httpx.Response, path: str) -> bool:
    """Tell whether a route did what it is for, as far as it can: here are no mails to be sent."""
    if path.endswith("/reconsent"):
        problem(answer, 409, "no-mail-server")
        return True
    return answer.is_success


def test_the_table_names_every_route_once() -> None:
    """What the table declares and what is served are the same, so no route goes without a role."""
    served = [(method, route.path) for route in api_routes() for method in route.methods or ()]

    assert sorted(served) == ROUTES


def test_every_route_lets_in_its_role_and_those_above_it(deployed: Deployed) -> None:
    """Each route is called with each role: those that the table lets in get an answer, all others a 403."""
    answers: dict[tuple[str, str, Role], bool] = {}
    with ExitStack() as opened:
        clients = {role: opened.enter_context(api(deployed.web, role)) for role in Role}
        for method, path in IN_TURN:
            for role, http in clients.items():
                answer = send(http, method, path, client=deployed.ours, grant=deployed.our_grant)
                if answer.status_code == 403:
                    problem(answer, 403, "forbidden")
                else:
                    assert is_done(answer, path), (method, path, role, answer.text)
                answers[method, path, role] = answer.status_code != 403

    expected = {
        "reader": {"GET"},
        "token": {"GET"},
        "operator": {"GET", "POST", "PATCH", "DELETE"},
        "admin": {"GET", "POST", "PATCH", "DELETE"},
    }
    for (method, path, role), let_in in answers.items():
        may = method in expected[role] and not (role is Role.READER and path.endswith("access-token"))
        assert let_in == may, (method, path, role)


def test_a_bound_token_is_good_for_its_client_alone(deployed: Deployed) -> None:
    """An admin bound to one client reaches nothing of another: its grants are not there, its name is refused."""
    with api(deployed.web, Role.ADMIN, client=deployed.ours) as http:
        before = deployed.web.run(value(deployed.web.container, "SELECT count(*) FROM events"))
        for method, path in ROUTES:
            answer = send(http, method, path, client=deployed.theirs, grant=deployed.their_grant)
            if "{grant_id}" in path:
                problem(answer, 404, "not-found")
            elif "{client}" in path or (method, path) in {("POST", "/v1/grants"), ("GET", "/v1/access-token")}:
                problem(answer, 403, "forbidden")
            else:
                seen = answer.json()["items"]
                assert seen, path
                assert {found["client"] for found in seen} == {deployed.ours}, path
        for path in ("/v1/grants", "/v1/events"):
            problem(http.get(path, params={"client": deployed.theirs}), 403, "forbidden")
        assert http.get("/v1/events", params={"grant": str(deployed.their_grant)}).json()["items"] == []
        assert deployed.web.run(value(deployed.web.container, "SELECT count(*) FROM events")) == before

        for method, path in IN_TURN:
            answer = send(http, method, path, client=deployed.ours, grant=deployed.our_grant)
            assert is_done(answer, path), (method, path, answer.text)


def test_without_a_good_token_there_is_nothing(deployed: Deployed) -> None:
    """No token, another scheme, an unknown, an expired, a revoked one: a 401 with a challenge, before all else."""
    web = deployed.web
    expired_id, expired = web.run(web.container.api_access.create(Role.ADMIN, lifetime=timedelta(hours=1)))
    web.run(execute(web.container, "UPDATE api_tokens SET expires_at = now() WHERE id = :id", id=expired_id))
    revoked_id, revoked = web.run(web.container.api_access.create(Role.ADMIN))
    web.run(web.container.api_access.tokens.revoke(revoked_id))
    good = make_token(web)
    none: list[str | None] = [None, "", "Bearer", f"Basic {good}", good]
    bad = ["Bearer evg_unknown", f"Bearer {good}x", f"Bearer {expired.reveal()}", f"Bearer {revoked.reveal()}"]

    with httpx.Client(base_url=web.url, trust_env=False, timeout=30) as http:
        for method, path in ROUTES:
            url = path.format(grant_id=deployed.our_grant, client=deployed.ours)
            answer = http.request(method, url, content="this is not JSON")
            problem(answer, 401, "unauthorized")
            assert answer.headers["www-authenticate"] == 'Bearer realm="Evergrant"'
        for header in none + bad:
            answer = http.get("/v1/grants", headers={"Authorization": header} if header is not None else {})
            problem(answer, 401, "unauthorized")
            challenge = 'Bearer realm="Evergrant"' + (', error="invalid_token"' if header in bad else "")
            assert answer.headers["www-authenticate"] == challenge
        assert http.get("/v1/grants", headers={"Authorization": f"bearer {good}"}).status_code == 200


def test_any_host_may_ask_with_a_token_and_a_token_is_no_session(deployed: Deployed) -> None:
    """The API does not care under which name it is reached; an API token shows nobody the page."""
    with api(deployed.web) as http:
        elsewhere = {"Host": "tokens.example", "X-Forwarded-For": "192.0.2.1"}

        assert http.get("/v1/grants", headers=elsewhere).status_code == 200
        assert http.get("/", headers=elsewhere).headers["location"] == "/sign-in"


def test_what_is_not_there_is_a_problem_too(deployed: Deployed) -> None:
    """Unknown paths and methods under /v1 answer with problems; elsewhere nothing has changed."""
    with api(deployed.web) as http:
        for path in ("/v1/nothing", "/v1", "/v1/grants/x/y/z", "/v1/clients/a/b"):
            problem(http.get(path), 404, "not-found")
        answer = http.put("/v1/grants")
        problem(answer, 405, "method-not-allowed")
        assert answer.headers["allow"] == "GET, POST"
        assert http.patch("/v1/access-token").headers["allow"] == "GET"
        problem(http.post("/v1/clients/nobody/pause", headers=once()), 404, "not-found")
        elsewhere = http.get("/nothing")
        assert (elsewhere.status_code, elsewhere.headers["content-type"]) == (404, "application/json")
