"""What a token endpoint is asked with, where it may lead, and which of its answers are read."""

from __future__ import annotations

import asyncio
import base64
import gzip
from datetime import UTC, datetime

import httpx
import pytest

from tests.support.raw_token_endpoint import (
    TOKENS,
    Server,
    always,
    answer,
    client_at,
    close_at_once,
    endpoint,
    error,
    free_port,
    refreshed,
    serving,
    then_close,
)
from worker.domain.outcome import Cause, Dead, InDoubt, Misconfigured, Outcome, Reason, Rotated, Throttled, Unavailable
from worker.domain.secret import Secret
from worker.oauth.exchange import BODY_LIMIT
from worker.oauth.http_client import create_http_client
from worker.oauth.token_endpoint import TokenAnswer, TokenEndpoint

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "status", ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 X"]
)
async def test_a_redirect_is_not_followed(status: str) -> None:
    """The secrets go to the configured address only; another one is never contacted."""
    elsewhere, server = Server(), Server()
    async with serving(elsewhere, always(elsewhere, answer())):
        location = f"Location: http://127.0.0.1:{elsewhere.port}/token"
        async with serving(server, always(server, answer(b"", status, location))):
            outcome = await refreshed(client_at(server.port))
    assert outcome == Misconfigured(cause=Cause(reason=Reason.REDIRECTED, status=int(status[:3])))
    assert (len(server.posts), elsewhere.connections) == (1, 0)


async def test_cookies_are_not_kept() -> None:
    """What a server sets with one owner's answer does not go along with another's request."""
    server = Server()
    cookie = "Set-Cookie: session=of-one-owner; Path=/"
    async with serving(server, always(server, answer(TOKENS, "200 OK", cookie))), endpoint() as asked:
        for token in ("rt-1", "rt-2"):
            assert isinstance((await asked.refresh(client_at(server.port), Secret(token))).outcome, Rotated)
    assert [post.headers.get("cookie") for post in server.posts] == [None, None]


async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that the machine names for others does not see our requests."""
    proxy, server = Server(), Server()
    async with serving(proxy, close_at_once), serving(server, always(server, answer())):
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert isinstance(await refreshed(client_at(server.port)), Rotated)
    assert (proxy.connections, len(server.posts)) == (0, 1)


async def test_the_next_secret_is_tried_on_invalid_client_at() -> None:
    """During a secret's rotation at the provider, the one that is accepted is found, in the configured order."""
    server = Server()

    async def picky(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            post = await server.read_post(reader)
            accepted = base64.b64encode(b"abc:cs-2").decode() in post.headers["authorization"]
            writer.write(answer() if accepted else error("invalid_client", "401 Unauthorized"))

    async with serving(server, picky):
        assert isinstance(await refreshed(client_at(server.port, secrets=("cs-1", "cs-2", "cs-3"))), Rotated)
    assert len(server.posts) == 2


async def test_when_no_secret_is_accepted_the_fault_is_ours() -> None:
    """Each secret is tried once, and then it is the client that is misconfigured."""
    server = Server()
    async with serving(server, always(server, error("invalid_client", "401 Unauthorized"))):
        outcome = await refreshed(client_at(server.port, secrets=("cs-1", "cs-2", "cs-3")))
    assert outcome == Misconfigured(cause=Cause(reason=Reason.INVALID_CLIENT, status=401, code="invalid_client"))
    assert len(server.posts) == 3


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        pytest.param(answer(), Rotated, id="tokens"),
        pytest.param(error("invalid_grant"), Dead, id="invalid_grant"),
        pytest.param(error("unauthorized_client", "401 X"), Misconfigured, id="unauthorized_client"),
        pytest.param(error("invalid_token", "401 X"), Misconfigured, id="401 and another code"),
        pytest.param(answer(b"<html>", "401 X"), Misconfigured, id="401 and HTML"),
        pytest.param(answer(b"", "404 X"), Misconfigured, id="404"),
        pytest.param(answer(b"", "302 X", "Location: /elsewhere"), Misconfigured, id="redirect"),
        pytest.param(error("invalid_client", "429 X"), Throttled, id="throttled"),
        pytest.param(error("odd"), Unavailable, id="unknown error"),
        pytest.param(answer(b"", "500 X"), InDoubt, id="500"),
        pytest.param(answer(b"<html>"), InDoubt, id="unreadable success"),
        pytest.param(b"", InDoubt, id="no answer"),
        pytest.param(answer()[:-5], InDoubt, id="half an answer"),
    ],
)
async def test_no_other_answer_lets_the_next_secret_be_tried(content: bytes, kind: type[Outcome]) -> None:
    """After anything but `invalid_client` the refresh token may have been looked at: it is presented once."""
    server = Server()
    async with serving(server, then_close(server, content)):
        outcome = await refreshed(client_at(server.port, secrets=("cs-1", "cs-2")))
    assert isinstance(outcome, kind)
    assert len(server.posts) == 1


async def test_a_code_is_exchanged_the_same_way() -> None:
    """The code exchange tries the next secret on invalid_client only, and brings the verifier each time."""
    server = Server()
    async with serving(server, always(server, error("invalid_client", "401 X"))), endpoint() as asked:
        configured = client_at(server.port, secrets=("cs-1", "cs-2"))
        await asked.exchange_code(configured, Secret("the-code"), Secret("the-verifier"))
    assert [b"code=the-code" in post.form and b"code_verifier=the-verifier" in post.form for post in server.posts] == [
        True,
        True,
    ]


async def test_an_oversized_body_is_not_read_to_its_end() -> None:
    """Reading stops soon after the cap: the server cannot send what it still has, and half an object is none."""
    server, offered, sent = Server(), 64 * 1024 * 1024, 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await server.read_post(reader)
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {offered}\r\n\r\n".encode() + TOKENS[:-1])
        while sent < offered:
            writer.write(b" " * BODY_LIMIT)
            await writer.drain()
            sent += BODY_LIMIT

    async with serving(server, flood):
        outcome = await refreshed(client_at(server.port))
    assert outcome == InDoubt(cause=Cause(reason=Reason.UNREADABLE_ANSWER, status=200))
    assert sent < offered / 2


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(
            b"HTTP/1.1 200 \xc9t\xe9\r\nContent-Length: %d\r\n\r\n" % len(TOKENS) + TOKENS, id="reason in latin-1"
        ),
        pytest.param(b"HTTP/1.1 200\r\nContent-Length: %d\r\n\r\n" % len(TOKENS) + TOKENS, id="no reason"),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\n" + TOKENS, id="HTTP/1.0 to the end of the connection"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n" + TOKENS, id="neither length nor chunks"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n45\r\n" + TOKENS + b"\r\n0\r\n\r\n", id="chunks"
        ),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" + answer(), id="an interim answer before"),
        pytest.param(answer(TOKENS, "200 OK", "X-Name: Ren\xe9"), id="a header in latin-1"),
        pytest.param(answer(TOKENS, "200 OK", f"X-Policy: {'x' * 60_000}"), id="a header of 60 kB"),
        pytest.param(answer(TOKENS, "200 OK", f"{'X' * 9_000}: 1"), id="a header's name of 9 kB"),
        pytest.param(answer(TOKENS, f"200 {'x' * 60_000}"), id="a reason of 60 kB"),
        pytest.param(answer(TOKENS, "200 OK", *(f"X-{number}: 1" for number in range(500))), id="500 headers"),
        pytest.param(answer(TOKENS, "200 OK", "Set-Cookie: ;;=;"), id="a malformed cookie"),
        pytest.param(answer(TOKENS, "200 OK", "Content-Encoding: unheard-of"), id="an unknown coding"),
        pytest.param(answer(gzip.compress(TOKENS), "200 OK", "Content-Encoding: gzip"), id="compressed unasked"),
    ],
)
async def test_an_odd_but_whole_answer_is_read(content: bytes) -> None:
    """Tokens that arrived are taken, whatever the server's HTTP looks like."""
    server = Server()
    async with serving(server, then_close(server, content)):
        outcome = await refreshed(client_at(server.port))
    assert isinstance(outcome, Rotated)
    assert outcome.tokens.refresh_token == Secret("rt-2")


async def test_who_we_are_and_what_we_take_is_said() -> None:
    """Each request names its sender, asks for JSON and for no compression."""
    server = Server()
    async with serving(server, always(server, answer())):
        await refreshed(client_at(server.port))
    [post] = server.posts
    assert post.headers["user-agent"] == "Evergrant tests"
    assert post.headers["accept"] == "application/json"
    assert post.headers["accept-encoding"] == "identity"
    assert post.headers["content-type"] == "application/x-www-form-urlencoded"
    assert post.form == b"grant_type=refresh_token&refresh_token=rt-1"


async def test_an_answer_comes_with_its_readings() -> None:
    """The monotonic readings are taken before sending and after reading, and the provider's Date goes along."""
    readings = iter([10.0, 12.5, 20.0, 21.0])
    server = Server()
    dated = answer(TOKENS, "200 OK", "Date: Mon, 23 Nov 2026 12:00:00 GMT")
    async with serving(server, always(server, dated)), create_http_client(user_agent="x") as http:
        asked = TokenEndpoint(http, lambda: next(readings))
        answered = await asked.refresh(client_at(server.port), Secret("rt-1"))
        failed = await asked.refresh(client_at(free_port()), Secret("rt-2"))
    assert (answered.sent_tick, answered.answered_tick) == (10.0, 12.5)
    assert answered.provider_date == datetime(2026, 11, 23, 12, tzinfo=UTC)
    assert failed == TokenAnswer(
        outcome=Unavailable(cause=Cause(reason=Reason.CONNECT)), sent_tick=20.0, answered_tick=21.0
    )


async def test_the_client_has_no_limit_of_its_own_on_connections() -> None:
    """As many requests as the window allows are in flight at once: none waits for a place in a pool."""
    server, together = Server(), asyncio.Barrier(120)

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_post(reader)
        await together.wait()
        writer.write(answer())
        await writer.drain()

    async with serving(server, meet), endpoint() as asked:
        configured = client_at(server.port, timeout="60s")
        answers = await asyncio.gather(*(asked.refresh(configured, Secret(f"rt-{number}")) for number in range(120)))
    assert all(isinstance(answered.outcome, Rotated) for answered in answers)
    assert server.connections == 120


async def test_the_http_client_is_the_one_without_surprises() -> None:
    """It follows nothing and trusts no environment, by its own settings too."""
    async with create_http_client(user_agent="x") as http:
        assert isinstance(http, httpx.AsyncClient)
        assert (http.follow_redirects, http.trust_env) == (False, False)
