"""Idempotency keys: the same POST sent again does nothing and gets the first answer, for a day."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx
import pytest

from tests.conftest import ContainerMaker, WebMaker
from tests.support.api import api, once, problem
from tests.support.database import everything_in, execute, rows, value
from tests.support.running_web import RunningWeb
from tests.support.sandbox_clients import SandboxClient, adopt, register
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import wait_until
from worker.domain.roles import Role
from worker.sandbox.server import RunningSandbox
from worker.storage.idempotency import Begun, UnderWay


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


def test_the_same_request_gets_the_same_answer(web: RunningWeb, client: SandboxClient, http: httpx.Client) -> None:
    """An adoption that is sent again is answered as the first time, location and all, and kept without its secrets."""
    wanted = {"client": client.name, "subject": "customer-42", "refresh_token": "a secret refresh token"}
    key = once()

    first, again = (http.post("/v1/grants", json=wanted, headers=key) for _ in range(2))
    unkeyed = http.post("/v1/grants", json=wanted)

    assert (first.status_code, again.status_code) == (201, 201)
    assert (first.content, first.headers["location"]) == (again.content, again.headers["location"])
    assert first.headers["content-type"] == again.headers["content-type"]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    problem(unkeyed, 409, "grant-exists")
    stored = web.run(everything_in(web.container, "idempotent_requests"))
    for kept_back in ("a secret refresh token", key["Idempotency-Key"], "customer-42"):
        assert kept_back not in stored
        assert kept_back.encode().hex() not in stored


def test_an_act_is_done_once(
    sandbox: RunningSandbox, web: RunningWeb, client: SandboxClient, http: httpx.Client
) -> None:
    """A refresh that is sent five times with one key is made once, and so is a refusal told five times."""
    [(grant_id, _)] = web.run(adopt(web.container, sandbox, client, due=False))
    key, other = once(), once()

    generations = {http.post(f"/v1/grants/{grant_id}/refresh", headers=key).json()["generation"] for _ in range(5)}

    assert generations == {1}
    assert sandbox.control.report().refreshes_presented == 1
    told = "SELECT count(*) FILTER (WHERE details ? 'replayed'), count(*) FROM audit_log WHERE act = 'grant.refresh'"
    assert [tuple(row) for row in web.run(rows(web.container, told))] == [(4, 5)], "four are told from the one done"
    http.delete(f"/v1/grants/{grant_id}")
    refused = [http.post(f"/v1/grants/{grant_id}/resume", headers=other) for _ in range(2)]
    assert refused[0].json() == problem(refused[1], 409, "grant-revoked")


def test_a_key_is_good_for_one_request_of_one_caller(
    sandbox: RunningSandbox, web: RunningWeb, client: SandboxClient, http: httpx.Client
) -> None:
    """With another path or body the key is refused and nothing is done; another caller's key is another key."""
    (first, _), (second, _) = web.run(adopt(web.container, sandbox, client, 2, due=False))
    key = once()
    assert http.post(f"/v1/grants/{first}/pause", headers=key).status_code == 200

    problem(http.post(f"/v1/grants/{second}/pause", headers=key), 422, "idempotency-key-reused")
    problem(http.post(f"/v1/grants/{first}/pause", json={}, headers=key), 422, "idempotency-key-reused")

    assert http.get(f"/v1/grants/{second}").json()["state"] == "active"
    with api(web) as somebody_else:
        assert somebody_else.post(f"/v1/grants/{second}/pause", headers=key).json()["state"] == "paused"
    with api(web, Role.READER) as reader:
        problem(reader.post(f"/v1/grants/{first}/pause", headers=key), 403, "forbidden")


def test_while_the_first_is_under_way_the_second_is_asked_to_wait(sandbox: RunningSandbox, make_web: WebMaker) -> None:
    """Two at once with one key: one is done, the other hears 409 with Retry-After, and later the first's answer."""
    with TcpProxy(sandbox.url) as provider:
        client = register(sandbox, token_endpoint_at=provider.url)
        with make_web(client.toml, **client.environment) as web, api(web) as http, ThreadPoolExecutor(1) as pool:
            [(grant_id, _)] = web.run(adopt(web.container, sandbox, client))
            key, path = once(), f"/v1/grants/{grant_id}/refresh"
            provider.hold()
            first = pool.submit(http.post, path, headers=key)
            wait_until(lambda: provider.held, 20, "the refresh is answered")

            second = http.post(path, headers=key)
            problem(second, 409, "request-under-way")
            assert second.headers["retry-after"] == "1"
            provider.release()

            assert first.result().json() == http.post(path, headers=key).json()
    assert sandbox.control.report().refreshes_presented == 1


def test_what_came_to_nothing_may_be_tried_again(
    sandbox: RunningSandbox, web: RunningWeb, client: SandboxClient, http: httpx.Client
) -> None:
    """A 503 is no answer to keep: with the same key the request is made once its client may be refreshed again."""
    [(grant_id, _)] = web.run(adopt(web.container, sandbox, client, due=False))
    http.post(f"/v1/clients/{client.name}/pause")
    key, path = once(), f"/v1/grants/{grant_id}/refresh"

    problem(http.post(path, headers=key), 503, "client-paused")
    http.post(f"/v1/clients/{client.name}/resume")

    assert http.post(path, headers=key).json()["generation"] == 1


@pytest.mark.parametrize("key", ["", "two words", "a" * 256, "ümlaut".encode().decode("latin-1")])
def test_a_key_that_is_none_is_refused(http: httpx.Client, key: str) -> None:
    """A key has 1 to 255 visible ASCII characters; anything else is named as the parameter that is wrong."""
    answer = http.post(f"/v1/grants/{uuid4()}/pause", headers={b"Idempotency-Key": key.encode("latin-1")})

    [error] = problem(answer, 422, "request-invalid")["errors"]
    assert error["parameter"] == "Idempotency-Key"


def test_a_day_later_a_key_is_new_and_its_row_gone(
    sandbox: RunningSandbox, web: RunningWeb, client: SandboxClient, http: httpx.Client
) -> None:
    """After 24 hours the key may be used for anything, pruned or not, and pruning takes the old rows only."""
    [(grant_id, _)] = web.run(adopt(web.container, sandbox, client, due=False))
    key = once()
    http.post(f"/v1/grants/{grant_id}/pause", headers=key)
    web.run(execute(web.container, "UPDATE idempotent_requests SET began_at = now() - interval '24 hours 1 second'"))

    assert http.post(f"/v1/grants/{grant_id}/resume", headers=key).json()["state"] == "active"
    assert http.post(f"/v1/grants/{grant_id}/resume", headers=key).headers["idempotency-replayed"] == "true"

    http.post(f"/v1/grants/{grant_id}/resume", headers=once())
    web.run(
        execute(
            web.container,
            "UPDATE idempotent_requests SET began_at = now() - interval '25 hours'"
            " WHERE id IN (SELECT id FROM idempotent_requests LIMIT 1)",
        )
    )
    assert web.run(web.container.dispatch.prune()) == 1
    assert web.run(value(web.container, "SELECT count(*) FROM idempotent_requests")) == 1


@pytest.mark.anyio
async def test_a_request_whose_process_died_is_made_again(make_container: ContainerMaker) -> None:
    """What has not been answered after five minutes never will be: then the key may be taken again, by one."""
    async with make_container("") as container:
        requests, caller = container.idempotent_requests, uuid4()

        async def begin() -> object:
            return await requests.begin(caller, "key", method="POST", path="/v1/grants?", body=b"{}")

        first = await begin()
        assert isinstance(first, Begun)
        assert await begin() == UnderWay()
        await execute(container, "UPDATE idempotent_requests SET began_at = now() - interval '5 minutes 1 second'")

        second = await begin()

        assert isinstance(second, Begun)
        assert second != first
        assert await begin() == UnderWay()
