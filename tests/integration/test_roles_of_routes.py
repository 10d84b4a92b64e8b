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
from tests.support.database import execute, rows
from tests.support.running_web import RunningWeb
from tests.support.sandbox_clients import adopt, register
from tests.support.signing_in import signed_in, somebody
from worker.bootstrap import Container
from worker.domain.roles import Everybody, Needed, Role
from worker.sandbox.server import RunningSandbox
from worker.web.app import create_web_app

README: Final = Path(__file__).parents[2] / "README.md"
API: Final = "/v1/"
#: What the walk sends where a route wants more than its path, so that it comes to the act itself.
FORMS: Final[Mapping[str, Mapping[str, str]]] = {
    "/access/tokens": {"name": "a walk's", "role": "token", "life": "30d"},
    "/grants/{grant_id}/email": {"email": "owner@example.com"},
}
NOTHING_ELSE: Final[Mapping[str, str]] = {}
#: Nobody connects there: mails are asked for, and no worker sends them.
SMTP: Final = "smtp://127.0.0.1:9"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """A web process with a client of ours and one of somebody else's, and a grant of each."""

    web: RunningWeb
    our_grant: UUID
    their_grant: UUID
    their_subject: str
    theirs: Mapping[str, str]  #: what else of theirs a path may name: a mail, an API token, a session


@pytest.fixture
def deployed(sandbox: RunningSandbox, make_web: WebMaker) -> Iterator[Deployed]:
    """Give a web process with two clients."""
    ours, theirs = register(sandbox, name="ours"), register(sandbox, name="foreign-client")
    with make_web(ours.toml + theirs.toml, smtp_url=SMTP, **ours.environment) as web:
        [(our_grant, _)] = web.run(adopt(web.container, sandbox, ours, due=False))
        [_, (their_grant, seeded)] = web.run(adopt(web.container, sandbox, theirs, 2, due=False))
        yield Deployed(
            web=web,
            our_grant=our_grant,
            their_grant=their_grant,
            their_subject=seeded.account,
            theirs=web.run(belongings(web.container, their_grant, client="foreign-client")),
        )


async def belongings(container: Container, grant: UUID, *, client: str) -> Mapping[str, str]:
    """Make a mail, an API token and a session of a client, and return their ids by their names in paths."""
    mail_id = uuid4()
    await execute(
        container,
        """
        INSERT INTO reconsent_mails (id, grant_id, client, subject, death, kind, recipient, state)
        SELECT :id, id, client, subject, now(), 'death', 'owner@example.com', 'refused' FROM grants WHERE id = :grant
        """,
        id=mail_id,
        grant=grant,
    )
    token_id, _token = await container.api_access.create(Role.READER, client=client, name="of theirs")
    session_id, _cookie = await container.sessions.begin(somebody(client=client), address=None, agent="test")
    return {"mail_id": str(mail_id), "token_id": str(token_id), "session_id": str(session_id)}


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


def asked(
    http: httpx.Client, route: tuple[str, str], *, client: str, grant: UUID, others: Mapping[str, str] = NOTHING_ELSE
) -> httpx.Response:
    """Call a route about a client, its grant and others of its belongings; what else its path wants is made up."""
    method, path = route
    known = {**others, "grant_id": str(grant), "client": client}
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


def whoever(web: RunningWeb, path: str, role: Role, client: str | None = None) -> AbstractContextManager[httpx.Client]:
    """Return whoever asks for a path with a role: a program for the API, a person for a page."""
    return api(web, role, client=client) if path.startswith(API) else signed_in(web, role, client=client)


def is_let_in(answer: httpx.Response) -> bool:
    """Tell whether whoever asked was let in; what came of it is another matter."""
    is_sent_to_sign_in = (
        answer.headers.get("location", "").startswith("/sign-in") and "set-cookie" not in answer.headers
    )
    return answer.status_code not in {401, 403} and not is_sent_to_sign_in


#: Where the client stands in a form or a query.
NAMING_A_CLIENT: Final = {
    ("GET", "/v1/access-token"),
    ("POST", "/v1/grants"),
    ("POST", "/grants/reconsent"),
    ("POST", "/access/tokens"),
}
#: Those that need a role, in an order in which none ends what the next is about.
WALKED: Final = sorted(
    ((route, Role(needs)) for route, needs in table().items() if needs is not Everybody.PUBLIC),
    key=lambda found: (found[0][0] == "DELETE", found[0][1].endswith("/revoke"), found[0]),
)


def test_every_route_lets_in_its_role_and_those_above_it(deployed: Deployed) -> None:
    """Each route is called with each role and by nobody: whoever the table lets in is let in, and no one else."""
    for route, needs in WALKED:
        for role in Role:
            with whoever(deployed.web, route[1], role) as http:
                answer = asked(http, route, client="ours", grant=deployed.our_grant)
            assert is_let_in(answer) == role.includes(needs), (route, role, answer.status_code)
        with httpx.Client(base_url=deployed.web.url, trust_env=False, timeout=60) as nobody:
            assert not is_let_in(asked(nobody, route, client="ours", grant=deployed.our_grant)), route


def test_whoever_is_bound_to_a_client_reaches_nothing_of_another(deployed: Deployed) -> None:
    """An admin of one client is refused another's name, does not find its grants, and nowhere reads of either."""
    for (method, path), _needs in WALKED:
        with whoever(deployed.web, path, Role.ADMIN, "ours") as http:
            answer = asked(
                http, (method, path), client="foreign-client", grant=deployed.their_grant, others=deployed.theirs
            )
            assert deployed.their_subject not in answer.text, path
            if any(f"{{{name}}}" in path for name in ("grant_id", *deployed.theirs)):
                assert answer.status_code == 404, (method, path)
            elif "{client}" in path or (method, path) in NAMING_A_CLIENT:
                assert answer.status_code in {403, 404}, (method, path)
            if method == "GET" and not path.startswith(API):
                assert "foreign-client" not in answer.text, path
    container = deployed.web.container
    before = deployed.web.run(container.grants.show(deployed.their_grant))
    assert before is not None
    assert (before.state, before.generation, before.email) == ("active", 0, None)
    query = """
        SELECT (SELECT count(*) FROM reconsent_mails),
               (SELECT count(*) FROM api_tokens WHERE client = 'foreign-client' AND revoked_at IS NULL),
               (SELECT count(*) FROM sessions WHERE client = 'foreign-client')
    """
    [kept] = deployed.web.run(rows(container, query))
    assert tuple(kept) == (1, 1, 1)
