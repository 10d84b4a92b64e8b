"""A refresh that goes out as GET: the transport must not send it again by itself, as it may with other GETs."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.support.raw_token_endpoint import Server, answer, client_at, endpoint, serving
from worker.domain.outcome import InDoubt, Rotated
from worker.domain.secret import Secret
from worker.oauth.provider_steps import TokenStep

pytestmark = pytest.mark.anyio


async def test_a_get_that_may_have_left_is_sent_once() -> None:
    """A used connection that breaks while a refresh by GET is under way leaves it in doubt, presented once."""
    heads: list[bytes] = []

    async def answer_then_break(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer())
        await writer.drain()
        heads.append(await reader.readuntil(b"\r\n\r\n"))

    async with serving(Server(), answer_then_break) as server, endpoint() as asked:
        configured = client_at(server.port)
        by_get = configured.provider.model_copy(update={"refresh": TokenStep(method="GET")})
        configured = replace(configured, provider=by_get)

        first = await asked.refresh(configured, Secret("rt-1"))
        second = await asked.refresh(configured, Secret("rt-2"))

    assert isinstance(first.outcome, Rotated)
    assert isinstance(second.outcome, InDoubt)
    assert [head.partition(b"refresh_token=")[2][:4] for head in heads] == [b"rt-1", b"rt-2"]
    assert server.connections == 1
