"""`worker.client`: httpx requests that carry an access token which Evergrant keeps fresh, sync and async."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
from worker.sandbox.behaviour import Behaviour
from worker.sandbox.server import RunningSandbox


@dataclass(slots=True, kw_only=True)
class Clock:
    """A monotonic clock that hardly moves by itself."""

    now: float = 1000.0

    def __call__(self) -> float:
        """Return the seconds it shows: never the same twice."""
        self.now += 1e-6
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


def test_of_many_threads_one_asks(world: World) -> None:
    """Twenty threads that need a token at once cost one question; so do twenty whose token was refused."""
    with httpx.Client(
        base_url=world.sandbox.url, auth=world.auth, trust_env=False, event_hooks={"request": [world.note]}
    ) as http:
        start = threading.Barrier(20)

        def ask() -> int:
            start.wait()
            return http.get("/userinfo").status_code

        with ThreadPoolExecutor(20) as pool:
            assert [found.result() for found in [pool.submit(ask) for _ in range(20)]] == [200] * 20
        assert world.sent.count("evergrant") == 1


def test_of_many_tasks_one_asks_and_a_refused_token_is_asked_about_once(world: World) -> None:
    """On one event loop, and on the next one with the same object."""

    async def ask_all() -> list[int]:
        async def note(request: httpx.Request) -> None:
            world.note(request)

        async with httpx.AsyncClient(
            base_url=world.sandbox.url, auth=world.auth, trust_env=False, timeout=60, event_hooks={"request": [note]}
        ) as http:
            answers = await asyncio.gather(*(http.get("/userinfo") for _ in range(20)))
            return [answer.status_code for answer in answers]

    assert asyncio.run(ask_all()) == [200] * 20
    assert world.sent.count("evergrant") == 1
    world.clock.now += 86_400
    assert asyncio.run(ask_all()) == [200] * 20
    assert world.sent.count("evergrant") == 2
    world.sandbox.control.revoke_consent(world.client.name, world.account)
    assert asyncio.run(ask_all()) == [401] * 20
    assert world.sent.count("evergrant") == 3


def test_who_waits_in_vain_asks_at_once(world: World) -> None:
    """Where the one who asks gets nothing the others do not ask one after the other: each has the reason soon."""
    with httpx.Client(transport=httpx.MockTransport(_slow_refusal), auth=world.auth) as http:

        def ask() -> str:
            with pytest.raises(NoAccessTokenError) as raised:
                http.get("https://provider.example/")
            return raised.value.kind

        began = time.monotonic()
        with ThreadPoolExecutor(10) as pool:
            assert list(pool.map(lambda _turn: ask(), range(10))) == ["grant-paused"] * 10
        assert time.monotonic() - began < 10 * _REFUSAL_SECONDS / 2


_REFUSAL_SECONDS = 0.4


def _slow_refusal(_request: httpx.Request) -> httpx.Response:
    time.sleep(_REFUSAL_SECONDS)
    return httpx.Response(409, json={"type": "urn:evergrant:problem:grant-paused", "title": "The grant is paused"})


def test_short_lived_tokens_are_not_refreshed_at_every_question(world: World, http: Sync | Async) -> None:
    """Where no token lives as long as the margin, what is asked for is a part of what they live."""
    life = "UPDATE grants SET access_expires_at = now() + interval '40 seconds', rotate_at = now() + interval '1 hour'"
    behaviour = Behaviour(access_lifetime=40)
    world.sandbox.control.change_behaviour(world.client.name, behaviour)
    world.web.run(execute(world.web.container, life))
    assert http.ask().status_code == 200  # 60 s were asked for: it was refreshed
    assert world.sandbox.control.report().refreshes_presented == 1
    world.clock.now += 31
    assert http.ask().status_code == 200
    assert world.sent.count("evergrant") == 2
    assert world.sandbox.control.report().refreshes_presented == 1


def test_an_error_survives_the_way_between_processes() -> None:
    """A task queue that pickles what a task raised gets it back whole."""
    problem = {"type": "urn:evergrant:problem:grant-needs-owner", "title": "The grant has ended", "detail": "Ask."}
    copy = pickle.loads(pickle.dumps(NoAccessTokenError(409, problem, 5)))

    assert (copy.status, copy.kind, copy.retry_after) == (409, "grant-needs-owner", 5)
    assert str(copy) == "Evergrant gave no access token (409): The grant has ended. Ask."


@pytest.mark.parametrize("token", ["", "  \n", "evg_x\nX-Other: 1", "evg_\u00fc"])
def test_what_is_no_api_token_is_refused_without_being_shown(token: str) -> None:
    """A header made of it would fail later, with the token in the error."""
    with pytest.raises(ValueError, match="api_token is empty, or holds what no API token does") as raised:
        EvergrantAuth("https://tokens.example", token, grant_id="42")
    assert not token.strip() or token.strip() not in str(raised.value)


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
