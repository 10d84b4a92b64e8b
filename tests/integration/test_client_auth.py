"""`worker.client`: httpx requests that carry an access token which Evergrant keeps fresh, sync and async."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tests.conftest import WebMaker
from tests.support.api import make_token
from tests.support.database import execute
from tests.support.running_web import RunningWeb
from tests.support.sandbox_clients import SandboxClient, adopt, register
from worker.client import EvergrantAuth, NoAccessTokenError
from worker.domain.roles import Role
from worker.domain.secret import Secret
from worker.sandbox.server import RunningSandbox


@dataclass(slots=True, kw_only=True)
class Clock:
    """A monotonic clock that stands until it is moved."""

    now: float = 1000.0

    def __call__(self) -> float:
        """Return the seconds it shows."""
        return self.now


@dataclass(kw_only=True)
class World:
    """A grant behind a running web process, and what an httpx client with its authentication sends."""

    sandbox: RunningSandbox
    web: RunningWeb
    client: SandboxClient
    account: str
    access_token: Secret
    auth: EvergrantAuth
    clock: Clock
    sent: list[str] = field(default_factory=list)

    def note(self, request: httpx.Request) -> None:
        """Note where a request goes."""
        self.sent.append("evergrant" if str(request.url).startswith(self.web.url) else "provider")


@pytest.fixture
def world(sandbox: RunningSandbox, make_web: WebMaker) -> Iterator[World]:
    """Give a grant with a day left of its access token."""
    client = register(sandbox)
    with make_web(client.toml, **client.environment) as web:
        [(_, seeded)] = web.run(adopt(web.container, sandbox, client, due=False))
        clock = Clock()
        auth = EvergrantAuth(
            web.url, make_token(web, Role.TOKEN), client=client.name, subject=seeded.account, tick=clock
        )
        yield World(
            sandbox=sandbox,
            web=web,
            client=client,
            account=seeded.account,
            access_token=seeded.access_token,
            auth=auth,
            clock=clock,
        )


class Sync:
    """An `httpx.Client`."""

    def __init__(self, world: World) -> None:
        self._http = httpx.Client(
            base_url=world.sandbox.url, auth=world.auth, trust_env=False, event_hooks={"request": [world.note]}
        )

    def ask(self, path: str = "/userinfo", **options: Any) -> httpx.Response:
        """Ask the provider."""
        return self._http.get(path, **options)

    def close(self) -> None:
        """Close it."""
        self._http.close()


class Async:
    """An `httpx.AsyncClient` on a loop of its own."""

    def __init__(self, world: World) -> None:
        async def note(request: httpx.Request) -> None:
            world.note(request)

        self._runner = asyncio.Runner()
        self._http = httpx.AsyncClient(
            base_url=world.sandbox.url, auth=world.auth, trust_env=False, event_hooks={"request": [note]}
        )

    def ask(self, path: str = "/userinfo", **options: Any) -> httpx.Response:
        """Ask the provider."""
        return self._runner.run(self._http.get(path, **options))

    def close(self) -> None:
        """Close it."""
        self._runner.run(self._http.aclose())
        self._runner.close()


@pytest.fixture(params=[Sync, Async])
def http(world: World, request: pytest.FixtureRequest) -> Iterator[Sync | Async]:
    """Open a client of either kind."""
    make: Callable[[World], Sync | Async] = request.param
    opened = make(world)
    yield opened
    opened.close()


def test_a_token_is_fetched_once_and_used_until_shortly_before_its_end(world: World, http: Sync | Async) -> None:
    """Requests carry the grant's token; Evergrant is asked for it again a minute before it ends, and not before."""
    assert [http.ask().json()["account"] for _ in range(3)] == [world.account] * 3
    assert world.sent == ["evergrant", "provider", "provider", "provider"]

    world.clock.now += 86_400 - 120
    assert http.ask().status_code == 200
    assert world.sent.count("evergrant") == 1
    world.clock.now += 61
    assert http.ask().status_code == 200
    assert world.sent.count("evergrant") == 2


def test_a_replaced_token_is_noticed_by_a_401(world: World, http: Sync | Async) -> None:
    """Where the kept token is refused and Evergrant has another, the request is sent once more with that one."""
    http.ask()
    world.sandbox.control.revoke_consent(world.client.name, world.account)
    world.web.run(execute(world.web.container, "DELETE FROM grants"))
    world.web.run(adopt(world.web.container, world.sandbox, world.client, due=False))
    world.sent.clear()

    assert http.ask().json()["account"] == world.account
    assert world.sent == ["provider", "evergrant", "provider"]
    assert http.ask().status_code == 200
    assert world.sent[3:] == ["provider"]


def test_a_401_for_the_only_token_is_the_answer(world: World, http: Sync | Async) -> None:
    """Where Evergrant has no other token the request is sent once more, and its 401 is what the caller gets."""
    http.ask()
    world.sandbox.control.revoke_consent(world.client.name, world.account)
    world.sent.clear()

    answer = http.ask()

    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer error="invalid_token"')
    assert world.sent == ["provider", "evergrant", "provider"]


def test_without_a_token_the_reason_is_raised(world: World, http: Sync | Async) -> None:
    """A dead grant raises with the problem's kind and what to do, and shows no token; nothing goes to the provider."""
    world.web.run(execute(world.web.container, "UPDATE grants SET state = 'reconsent_required', rotate_at = NULL"))

    with pytest.raises(NoAccessTokenError, match="its owner has to authorize again") as raised:
        http.ask()

    assert (raised.value.status, raised.value.kind, raised.value.retry_after) == (409, "grant-needs-owner", None)
    assert world.sent == ["evergrant"]
    assert "evg_" not in f"{raised.value} {raised.value!r} {world.auth!r}"


def test_a_body_that_cannot_be_sent_again_is_sent_once() -> None:
    """A streamed body is gone with the first try, so its 401 is the answer."""
    auth = EvergrantAuth("https://tokens.example", "evg_x", grant_id="42")
    flow = auth.sync_auth_flow(httpx.Request("POST", "https://provider.example", content=iter([b"body"])))
    question = next(flow)

    sent = flow.send(httpx.Response(200, json={"access_token": "abc", "expires_in": 3600}, request=question))

    assert question.url == "https://tokens.example/v1/grants/42/access-token?min_ttl=60"
    assert (sent.method, sent.headers["authorization"]) == ("POST", "Bearer abc")
    with pytest.raises(StopIteration):
        flow.send(httpx.Response(401, request=sent))


@pytest.mark.parametrize("which", [{}, {"client": "a"}, {"subject": "a"}, {"grant_id": "a", "client": "b"}], ids=str)
def test_which_grant_must_be_said_one_way(which: dict[str, Any]) -> None:
    """Either the grant's id or client and subject: anything else is a mistake that is told at once."""
    with pytest.raises(TypeError, match="either grant_id, or both client and subject"):
        EvergrantAuth("https://tokens.example", "evg_x", **which)
