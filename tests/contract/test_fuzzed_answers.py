"""Answers that no table has: documented ones changed at random, byte by byte, and sent over real connections.

`make fuzz` looks for three minutes, with another seed each time; EVERGRANT_TEST_SEED=… repeats one.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from random import Random  # noqa: TID251 -- seeded: a failure names its seed
from typing import Final

import pytest

from tests.support.catalogue_contract import catalogue, contract, written_contracts
from tests.support.raw_token_endpoint import Script, Server, client_at, endpoint, serving
from worker.domain.outcome import Rotated, label
from worker.domain.secret import Secret
from worker.oauth.classify import classify
from worker.oauth.reading import Reading, reading_of
from worker.oauth.registry import build_registry
from worker.oauth.token_answer import HttpAnswer

SECONDS: Final = float(os.environ.get("EVERGRANT_TEST_SECONDS", "2"))
#: Always the same in the suite, so that it fails for a change and for nothing else.
SEED: Final = os.environ.get("EVERGRANT_TEST_SEED") or (
    secrets.token_hex(4) if "EVERGRANT_TEST_SECONDS" in os.environ else "1"
)
SENT: Final = "rt-0f4c6a7be29d"
CLIENT_SECRET: Final = "cs-77e1d25f30aa"
ACCESS, REFRESH = "at-5d0e8b4f7a31", "rt-9c3d4e5f6a7b"
STATUSES: Final = (200, 201, 302, 400, 401, 403, 404, 429, 500, 503)
#: What a byte, a number or a word is exchanged for.
ODD: Final = (
    *(
        b"\x00",
        b"\xff",
        b"\xfe\xff",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\\ud800",
        b"\\u0000",
        b"\r\n",
        b'"',
        b"{",
        b"}",
        b"[",
        b"]",
    ),
    *(b"null", b"true", b"1e400", b"-1", b"NaN", b"9" * 400, b'"access_token"', b'"error"', b"invalid_grant"),
    *(SENT.encode(), CLIENT_SECRET.encode(), b"<p>", b"&", b"=", b"%", b"0\r\n\r\n", b"Content-Length: 7\r\n"),
)


def until_the_time_is_up() -> Iterator[Random]:
    """Yield a source of chance for each try."""
    chance, ends = Random(SEED), time.monotonic() + SECONDS
    while time.monotonic() < ends:
        yield chance


@cache
def documented() -> Sequence[bytes]:
    """Return every answer and every error that a provider of the catalogue documents."""
    bodies: list[str] = []
    for name in sorted(written_contracts()):
        written = contract(name)
        bodies += [step.answer for step in (written.code, written.upgrade, written.refresh) if step is not None]
        bodies += [error.body for error in written.errors]
    return [body.encode() for body in bodies]


@cache
def readings() -> Sequence[Reading]:
    """Return how each provider of the catalogue is read."""
    registry = build_registry(
        catalogue=catalogue(), providers={}, clients={}, environment={}, public_url="https://tokens.example"
    )
    return [reading_of(provider, provider.refresh) for provider in registry.providers.values()]


def spoilt(text: bytes, chance: Random) -> bytes:
    """Change some bytes: swap, cut, repeat, insert what is odd."""
    spoiling = bytearray(text)
    for _ in range(chance.randint(1, 6)):
        place = chance.randrange(len(spoiling) + 1)
        end = min(len(spoiling), place + chance.choice((0, 1, 1, 2, 8, 40)))
        match chance.randrange(5):
            case 0:
                spoiling[place:end] = chance.choice(ODD)
            case 1:
                del spoiling[place:end]
            case 2:
                spoiling[place:place] = spoiling[place:end]
            case 3:
                spoiling[place:end] = chance.randbytes(end - place)
            case _:
                spoiling[place:end] = chance.choice(documented())[: end - place]
    return bytes(spoiling)


def shown_safely(shown: str) -> bool:
    """Tell whether nothing that was sent stands in a text."""
    return SENT not in shown and CLIENT_SECRET not in shown


def test_no_spoilt_answer_raises_or_shows_a_secret() -> None:
    """Under the facts of every provider, whatever stands in the body, there is an outcome, and it tells no secret."""
    tries = 0
    for chance in until_the_time_is_up():
        reading, status = chance.choice(readings()), chance.choice(STATUSES)
        body = spoilt(chance.choice(documented()), chance)
        ending = chance.choice(("whole", "whole", "cut", "broken"))
        headers = {"date": "Tue, 24 Nov 2026 12:00:00 GMT", "retry-after": spoilt(b"60", chance).decode("latin-1")}
        answer = HttpAnswer(status=status, headers=headers, body=body, cut=ending == "cut", broken=ending == "broken")
        assert reading.provider is not None

        outcome = classify(
            answer, facts=reading.provider.facts, secrets=(Secret(SENT), Secret(CLIENT_SECRET)), reading=reading
        )

        assert label(outcome), (SEED, tries)
        assert shown_safely(repr(outcome)), (SEED, tries, body)
        tries += 1
    assert tries > 100


@pytest.mark.anyio
async def test_no_spoilt_response_raises_or_shows_a_secret() -> None:
    """Spoilt from its first byte on, status line, headers, chunks and all, it has an outcome and leaves no trace."""
    tries, server, content = 0, Server(), bytearray()

    async with serving(server, answering(server, lambda: bytes(content))), endpoint() as asked:
        client = client_at(server.port, secrets=(CLIENT_SECRET,), timeout="2s")
        for chance in until_the_time_is_up():
            content[:] = spoilt(framed(chance.choice(documented()), chance), chance)
            answered = await asked.refresh(client, Secret(SENT))

            assert label(answered.outcome), (SEED, tries)
            assert shown_safely(repr(answered)), (SEED, tries, bytes(content))
            tries += 1
    assert 50 < len(server.posts) <= tries


@pytest.mark.anyio
async def test_no_new_refresh_token_is_dropped() -> None:
    """However a whole answer is dressed, framed and ended, the tokens in it are those that are stored."""
    tries, server, content = 0, Server(), bytearray()

    async with serving(server, answering(server, lambda: bytes(content))), endpoint() as asked:
        client = client_at(server.port, secrets=(CLIENT_SECRET,), timeout="2s")
        for chance in until_the_time_is_up():
            content[:] = framed(dressed(chance), chance)
            outcome = (await asked.refresh(client, Secret(SENT))).outcome

            assert isinstance(outcome, Rotated), (SEED, tries, bytes(content), outcome)
            found = outcome.tokens
            assert (found.access_token, found.refresh_token) == (Secret(ACCESS), Secret(REFRESH)), (SEED, tries)
            tries += 1
    assert len(server.posts) == tries > 50


def answering(server: Server, content: Callable[[], bytes]) -> Script:
    """Answer each request with what there is then, and close."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_post(reader)
        writer.write(content())
        await writer.drain()

    return script


def dressed(chance: Random) -> bytes:
    """Return a body with the tokens in it, among members that nobody asked for, and words around."""
    around = {
        "expires_in": chance.choice((3600, "3600", -1, None, [], 10**30, "soon", {"a": 1}, True)),
        "scope": chance.choice(("a b", ["a", 1], {"a": 1}, None, 7)),
        "token_type": chance.choice(("Bearer", "mac", None, 1)),
        "error": chance.choice((None, "", "odd", {}, [], 0, False, "slow_down")),
        "data": chance.choice((None, {"access_token": "x"}, [{"access_token": 1}], "x" * 3000)),
    }
    members = [(name, around[name]) for name in chance.sample(sorted(around), chance.randint(0, len(around)))]
    members += [("access_token", ACCESS), ("refresh_token", REFRESH)]
    chance.shuffle(members)
    text = json.dumps(dict(members), indent=chance.choice((None, 2)), ensure_ascii=chance.random() < 0.5)
    before = chance.choice(("", "", " \r\n", "\ufeff", "<b>Notice</b>: line 7\n", ")]}',\n".replace("}", ""), "cb("))
    return (before + text + chance.choice(("", "", "\n", "\x00", "<!-- 3 ms -->", ");", "}"))).encode()


def framed(body: bytes, chance: Random) -> bytes:
    """Return an HTTP answer of any status with this body, ended as a server should, or as one that fails."""
    lines = [f"HTTP/1.1 {chance.choice(STATUSES)} {chance.choice(('OK', '', 'Ünknown'))}", "Connection: close"]
    kinds = ("application/json", "text/html; charset=klingon", "", "image/png")
    lines += [f"Content-Type: {chance.choice(kinds)}", *(["Retry-After: 7"] if chance.random() < 0.3 else [])]
    lines += [f"X-{number}: {'x' * chance.randint(0, 200)}" for number in range(chance.choice((0, 0, 3, 200)))]
    if chance.random() < 0.2:
        body = gzip.compress(body)
        lines.append("Content-Encoding: gzip")
    match chance.randrange(5):
        case 0:
            lines.append(f"Content-Length: {len(body)}")
        case 1:  # the connection ends before the body does
            lines.append(f"Content-Length: {len(body) + chance.randint(1, 500)}")
        case 2:  # to the end of the connection
            pass
        case _:
            lines.append("Transfer-Encoding: chunked")
            body = chunks(body, chance)
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def chunks(body: bytes, chance: Random) -> bytes:
    """Return a body in pieces, with or without the last one, which says that it is whole."""
    pieces, rest = [], body
    while rest:
        length = chance.randint(1, len(rest))
        pieces.append(b"%x\r\n%s\r\n" % (length, rest[:length]))
        rest = rest[length:]
    return b"".join(pieces) + (b"0\r\n\r\n" if chance.random() < 0.7 else b"")
