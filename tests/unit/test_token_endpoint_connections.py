"""Connections to a token endpoint that fail, break off, drip or close: what may have left, and what never did."""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
import time
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.certificates import certificate
from tests.support.raw_token_endpoint import (
    TOKENS,
    Server,
    always,
    answer,
    client_at,
    close_at_once,
    endpoint,
    free_port,
    refreshed,
    serving,
    then_close,
)
from worker.domain.outcome import Cause, InDoubt, Misconfigured, Reason, Rotated, Unavailable
from worker.domain.secret import Secret

pytestmark = pytest.mark.anyio

NO_ANSWER = InDoubt(cause=Cause(reason=Reason.NO_ANSWER))
TIMED_OUT = InDoubt(cause=Cause(reason=Reason.TIMEOUT))
NOT_CONNECTED = Unavailable(cause=Cause(reason=Reason.CONNECT))
NOT_LOOKED_UP = Misconfigured(cause=Cause(reason=Reason.ENDPOINT_NOT_FOUND))
REFUSED_BEFORE = Unavailable(cause=Cause(reason=Reason.REQUEST_INCOMPLETE))
HTTPS_ACME = "https://acme.example/token"
TLS_FAILED = Misconfigured(cause=Cause(reason=Reason.TLS))


async def test_a_refused_connection_spent_nothing() -> None:
    """Nobody listens: the request did not leave, and may be repeated."""
    assert await refreshed(client_at(free_port())) == NOT_CONNECTED


async def test_tls_to_a_server_without_it_spent_nothing() -> None:
    """The handshake fails before any token is sent: our address is wrong, and no grant is in doubt."""
    received = bytearray()

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.extend(await reader.read(4096))
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with serving(Server(), plain) as server:
        assert await refreshed(client_at(server.port, scheme="https")) == TLS_FAILED
    assert received[:1] == b"\x16", "a TLS handshake record"
    assert b"rt-1" not in received


@pytest.mark.parametrize(("limit", "silence"), [("10s", 0), ("400ms", 60)], ids=["closed", "silent"])
async def test_a_handshake_that_does_not_come_about_spent_nothing(limit: str, silence: float) -> None:
    """A server that closes, or is silent, during the handshake has been sent no token."""

    async def silent(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(silence)

    async with serving(Server(), silent) as server:
        assert await refreshed(client_at(server.port, scheme="https", timeout=limit)) == NOT_CONNECTED


async def test_a_certificate_that_nobody_vouches_for_spent_nothing(tmp_path: Path) -> None:
    """An unknown certificate is our or the provider's fault and no grant's; with trust in it, tokens arrive."""
    serves, trusts = certificate(tmp_path)
    server = Server()
    async with serving(server, always(server, answer()), tls=serves):
        configured = client_at(server.port, scheme="https")
        assert await refreshed(configured) == TLS_FAILED
        assert server.posts == []
        assert isinstance(await refreshed(configured, tls=trusts), Rotated)


async def test_accepted_and_closed_is_in_doubt() -> None:
    """The connection was there to be written to, so the request may have left."""
    async with serving(Server(), close_at_once) as server:
        assert await refreshed(client_at(server.port)) == NO_ANSWER


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"HT", id="two letters"),
        pytest.param(b"HTTP/1.1 20", id="half a status line"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Le", id="half a header"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", id="headers only"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + TOKENS[:-1], id="half a body"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\naccess_token=at&refresh_token=rt",
            id="a form, which may go on",
        ),
        pytest.param(
            b'HTTP/1.1 400 X\r\nContent-Length: 500\r\n\r\n{"error": "invalid_grant"}', id="an error, readable"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + TOKENS, id="no chunk size"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n", id="an interim answer only"),
        pytest.param(b"\x15\x03\x03\x00\x02\x02\x28", id="a TLS alert"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", id="another protocol"),
        pytest.param(TOKENS, id="a body without headers"),
        pytest.param(b"HTTP/1.1 abc OK\r\n\r\n", id="a status that is none"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n" + TOKENS, id="a header of 70 kB"),
    ],
)
async def test_an_answer_that_cannot_be_read_to_its_end_is_in_doubt(content: bytes) -> None:
    """Whatever half of an answer came, the token may have been spent, and the request is made once."""
    server = Server()
    async with serving(server, then_close(server, content)):
        assert await refreshed(client_at(server.port)) == NO_ANSWER
    assert len(server.posts) == 1


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + TOKENS, id="fewer bytes than it says"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n45\r\n" + TOKENS, id="no last chunk"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n90\r\n" + TOKENS, id="half of a chunk"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n" + TOKENS, id="a negative length"),
        pytest.param(answer(TOKENS, "200 OK", f"Content-Length: {len(TOKENS)}"), id="its length twice"),
        pytest.param(answer(TOKENS, "200 OK", "Odd Name: x"), id="a header whose name has a space"),
        pytest.param(answer(TOKENS).replace(b"HTTP/1.1", b"HTTP/2"), id="another version"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
            + f"{len(TOKENS):x}\r\n".encode()
            + TOKENS
            + b"\r\n0\r\n\r\n",
            id="a length beside chunks",
        ),
        pytest.param(
            answer(gzip.compress(TOKENS)[:-8], "200 OK", "Content-Encoding: gzip"), id="compressed, without its check"
        ),
        pytest.param(answer(TOKENS, "200 OK", "Content-Encoding: gzip"), id="not the compression it says"),
        pytest.param(answer(TOKENS, "200 OK", "Content-Encoding: deflate"), id="nor this one"),
        pytest.param(answer(zlib.compress(TOKENS), "200 OK", "Content-Encoding: deflate"), id="compressed by zlib"),
        pytest.param(
            answer(zlib.compress(TOKENS, wbits=-15), "200 OK", "Content-Encoding: deflate"), id="and without its frame"
        ),
    ],
)
async def test_whole_tokens_are_taken_however_the_connection_ended(content: bytes) -> None:
    """An object whose last brace has arrived is complete: its tokens are stored, and not lost to the framing."""
    server = Server()
    async with serving(server, then_close(server, content)):
        outcome = await refreshed(client_at(server.port))
    assert isinstance(outcome, Rotated)
    assert outcome.tokens.refresh_token == Secret("rt-2")


async def test_whole_tokens_are_taken_when_the_time_is_up() -> None:
    """A server that sends its answer and then never ends it has sent it."""
    server = Server()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_post(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + TOKENS)
        await writer.drain()
        await asyncio.sleep(60)

    async with serving(server, endless):
        outcome = await refreshed(client_at(server.port, timeout="300ms"))
    assert isinstance(outcome, Rotated)


@pytest.mark.parametrize("failure", [UnicodeError("label too long"), ValueError("odd"), RuntimeError, MemoryError])
async def test_whatever_fails_before_a_connection_spent_nothing(
    monkeypatch: pytest.MonkeyPatch, failure: Exception | type[Exception]
) -> None:
    """The kind of an exception decides nothing: what has no connection has not left."""

    def getaddrinfo(*_arguments: object, **_more: object) -> None:
        raise failure

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    server = Server()
    async with serving(server, always(server, answer())):
        configured = client_at(server.port)
        named = replace(configured, provider=configured.provider.model_copy(update={"token_endpoint": HTTPS_ACME}))
        outcome = await refreshed(named)
    expected = NOT_LOOKED_UP if isinstance(failure, UnicodeError) else NOT_CONNECTED
    assert outcome == expected
    assert server.connections == 0


async def test_what_cannot_be_built_has_not_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that fails while it is put together is a fault of ours, told as one, and puts nothing in doubt."""

    def fail(*_arguments: object, **_more: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("worker.oauth.refresh_requests.refresh_request", fail)

    assert await refreshed(client_at(free_port())) == REFUSED_BEFORE


async def test_a_reset_after_the_request_is_in_doubt() -> None:
    """A connection that is reset while the answer is awaited leaves a doubt."""
    server = Server()

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_post(reader)
        linger = struct.pack("ii", 1, 0)  # on, for no time: closing sends RST
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    async with serving(server, reset):
        assert await refreshed(client_at(server.port)) == NO_ANSWER
    assert len(server.posts) == 1


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 ", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"]
)
async def test_a_slow_drip_ends_with_the_time_limit(head: bytes) -> None:
    """A byte now and then keeps no request alive beyond its limit: the whole answer counts, not the pauses."""
    server = Server()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_post(reader)
        writer.write(head)
        while True:
            writer.write(b"X")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with serving(server, drip):
        began = time.monotonic()
        outcome = await refreshed(client_at(server.port, timeout="500ms"))
        took = time.monotonic() - began
    assert outcome == TIMED_OUT
    assert 0.45 <= took < 5


async def test_silence_ends_with_the_time_limit() -> None:
    """A server that reads and says nothing leaves a doubt once the time is up."""
    server = Server()

    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await server.read_post(reader)
        await asyncio.sleep(60)

    async with serving(server, silent):
        assert await refreshed(client_at(server.port, timeout="300ms")) == TIMED_OUT
    assert len(server.posts) == 1


async def test_a_connection_is_used_again() -> None:
    """Requests that follow each other go over one connection, each token once."""
    server = Server()
    async with serving(server, always(server, answer())), endpoint() as asked:
        for number in range(3):
            answered = await asked.refresh(client_at(server.port), Secret(f"rt-{number}"))
            assert isinstance(answered.outcome, Rotated)
    assert [post.connection for post in server.posts] == [1, 1, 1]


async def test_a_kept_connection_that_closes_on_the_next_request_is_never_sent_again() -> None:
    """The second request may have been read: it is in doubt, and no other connection is tried with it."""
    server = Server()

    async def one_and_a_half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_post(reader)
        writer.write(answer())
        await writer.drain()
        await server.read_post(reader)  # and close without a word

    async with serving(server, one_and_a_half), endpoint() as asked:
        first = await asked.refresh(client_at(server.port), Secret("rt-first"))
        second = await asked.refresh(client_at(server.port), Secret("rt-second"))
    assert isinstance(first.outcome, Rotated)
    assert second.outcome == NO_ANSWER
    assert (server.connections, len(server.posts)) == (1, 2)


async def test_a_kept_connection_that_closes_between_two_requests_costs_no_second_sending() -> None:
    """Whether or not the close is noticed in time, each token reaches the server at most once."""
    server = Server()
    async with serving(server, then_close(server, answer())), endpoint() as asked:
        outcomes = [
            (await asked.refresh(client_at(server.port), Secret(f"rt-{number}-"))).outcome for number in range(30)
        ]
    sent = [post.form for post in server.posts]
    assert len(set(sent)) == len(sent)
    for number, outcome in enumerate(outcomes):
        arrived = any(f"rt-{number}-".encode() in form for form in sent)
        assert isinstance(outcome, Rotated) == arrived
        assert arrived or outcome == NO_ANSWER
    assert isinstance(outcomes[0], Rotated)


async def test_concurrent_requests_know_of_their_own_departure_only() -> None:
    """A request that left does not put one that could not connect in doubt, nor the other way round."""
    server, nobody = Server(), free_port()
    async with serving(server, then_close(server, b"")), endpoint() as asked:
        pairs = [(client_at(server.port), NO_ANSWER), (client_at(nobody), NOT_CONNECTED)] * 10
        answers = await asyncio.gather(
            *(asked.refresh(configured, Secret(f"rt-{turn}")) for turn, (configured, _) in enumerate(pairs))
        )
    assert [answered.outcome for answered in answers] == [expected for _, expected in pairs]
    assert len(server.posts) == 10


async def test_a_cancelled_request_stays_cancelled() -> None:
    """A cancellation is no outcome: it goes through to whoever asked for it."""
    server, arrived = Server(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await server.read_post(reader)
        arrived.set()
        await asyncio.sleep(60)

    async with serving(server, silent), endpoint() as asked:
        task = asyncio.create_task(asked.refresh(client_at(server.port), Secret("rt-1")))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
