"""Who may do what: every route with every role, for its own and for a foreign client, against README's table."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi.routing import APIRoute
from starlette.routing import Mount

from tests.conftest import WebMaker
from tests.support.api import api
from tests.support.running_web import RunningWeb
from tests.support.sandbox_clients import adopt, register
from tests.support.signing_in import signed_in
from worker.domain.roles import Everybody, Needed, Role
from worker.sandbox.server import RunningSandbox
from worker.web.app import create_web_app

README: Final = Path(__file__).parents[2] / "README.md"
API: Final = "/v1/"
#: What the walk sends where a route wants more than its path, so that it comes to the act itself.
FORMS: Final[Mapping[str, Mapping[str, str]]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """A web process with a client of ours and one of somebody else's, and a grant of each."""

    web: RunningWeb
    our_grant: UUID
    their_grant: UUID
    their_subject: str


@pytest.fixture
def deployed(sandbox: RunningSandbox, make_web: WebMaker) -> Iterator[Deployed]:
    """Give a web process with two clients."""
    ours, theirs = register(sandbox, name="ours"), register(sandbox, name="foreign-client")
    with make_web(ours.toml + theirs.toml, **ours.environment) as web:
        [(our_grant, _)] = web.run(adopt(web.container, sandbox, ours, due=False))
        [_, (their_grant, seeded)] = web.run(adopt(web.container, sandbox, theirs, 2, due=False))
        yield Deployed(web=web, our_grant=our_grant, their_grant=their_grant, their_subject=seeded.account)


def table() -> dict[tuple[str, str], Needed]:
    """Read README's table: what each route needs."""
    section = README.read_text(encoding="utf-8").split("### Who may do what")[1].split("\n### ")[0]
    found: dict[tuple[str, str], Needed] = {}
    for needs, routes in re.findall(r"^\| (public|reader|token|operator|admin) \| (.*) \|$", section, re.MULTILINE):
        for method, path in re.findall(r"`([A-Z]+) (/\S*)`", routes):
            assert (method, path) not in found, f"{method} {path} stands twice"
            found[method, path] = Everybody.PUBLIC if needs == "public" else Role(needs)
    return found


def declared() -> dict[tuple[str, str], Needed]:
    """Return what each route that is served declares; one that declares nothing has no such attribute."""

    def nothing() -> Any:
        raise AssertionError

    found: dict[tuple[str, str], Needed] = {}
    for route in create_web_app(nothing).routes:
        if isinstance(route, APIRoute):
            needs = route.declared.needs  # type: ignore[attr-defined]
            found |= {(method, route.path): needs for method in route.methods or ()}
        else:
            assert isinstance(route, Mount), route
            found["GET", route.path] = Everybody.PUBLIC
    return found


def test_readme_says_what_every_route_declares() -> None:
    """README's table and the routes agree, and none goes undeclared."""
    assert table() == declared()


def asked(http: httpx.Client, route: tuple[str, str], *, client: str, grant: UUID) -> httpx.Response:
    """Call a route about a client and its grant; whatever else its path wants is made up."""
    method, path = route
    known = {"grant_id": str(grant), "client": client}
    url = re.sub(r"\{(\w+)\}", lambda named: known.get(named[1]) or str(uuid4()), path)
    if not path.startswith(API):
        data = {**FORMS.get(path, {}), "client": client} if method == "POST" else None
        return http.request(method, url, data=data)
    body: dict[str, str] | None = None
    if route == ("POST", "/v1/grants"):
        body = {"client": client, "subject": uuid4().hex, "refresh_token": uuid4().hex, "access_token": uuid4().hex}
    elif method == "PATCH":
        body = {"email": "owner@example.com"}
    query = {"client": client, "subject": "account-1"} if path == "/v1/access-token" else {}
    return http.request(method, url, json=body, params=query)


def somebody(web: RunningWeb, path: str, role: Role, client: str | None = None) -> AbstractContextManager[httpx.Client]:
    """Return whoever asks for a path with a role: a program for the API, a person for a page."""
    return api(web, role, client=client) if path.startswith(API) else signed_in(web, role, client=client)


def is_let_in(answer: httpx.Response) -> bool:
    """Tell whether whoever asked was let in; what came of it is another matter."""
    is_sent_to_sign_in = (
        answer.headers.get("location", "").startswith("/sign-in") and "set-cookie" not in answer.headers
    )
    return answer.status_code not in {401, 403} and not is_sent_to_sign_in


#: Those that need a role, in an order in which none ends what the next is about.
WALKED: Final = sorted(
    ((route, Role(needs)) for route, needs in table().items() if needs is not Everybody.PUBLIC),
    key=lambda found: (found[0][0] == "DELETE", found[0][1].endswith("/revoke"), found[0]),
)


def test_every_route_lets_in_its_role_and_those_above_it(deployed: Deployed) -> None:
    """Each route is called with each role and by nobody: whoever the table lets in is let in, and no one else."""
    for route, needs in WALKED:
        for role in Role:
            with somebody(deployed.web, route[1], role) as http:
                answer = asked(http, route, client="ours", grant=deployed.our_grant)
            assert is_let_in(answer) == role.includes(needs), (route, role, answer.status_code)
        with httpx.Client(base_url=deployed.web.url, trust_env=False, timeout=60) as nobody:
            assert not is_let_in(asked(nobody, route, client="ours", grant=deployed.our_grant)), route


def test_whoever_is_bound_to_a_client_reaches_nothing_of_another(deployed: Deployed) -> None:
    """An admin of one client is refused another's name, does not find its grants, and nowhere reads of either."""
    for (method, path), _needs in WALKED:
        with somebody(deployed.web, path, Role.ADMIN, "ours") as http:
            answer = asked(http, (method, path), client="foreign-client", grant=deployed.their_grant)
            assert deployed.their_subject not in answer.text, path
            if "{grant_id}" in path:
                assert answer.status_code == 404, (method, path)
            elif "{client}" in path or path == "/v1/access-token" or (method, path) == ("POST", "/v1/grants"):
                assert answer.status_code in {403, 404}, (method, path)
            if method == "GET" and not path.startswith(API):
                assert "foreign-client" not in answer.text, path
    before = deployed.web.run(deployed.web.container.grants.show(deployed.their_grant))
    assert before is not None
    assert (before.state, before.generation) == ("active", 0)
