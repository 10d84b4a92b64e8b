"""Revocation and introspection at a server that does not keep to HTTP: what counts as an answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.raw_token_endpoint import Server, answer, client_at, serving, then_close
from worker.domain.secret import Secret
from worker.oauth.http_client import create_http_client
from worker.oauth.token_tools import Introspected, TokenTools

pytestmark = pytest.mark.anyio

BROKEN = b"Content-Length: 500\r\n\r\n"


async def asked(content: bytes) -> tuple[bool, Introspected]:
    """Revoke and introspect a token, over a connection each, at a server that answers with these bytes."""
    server = Server()
    async with serving(server, then_close(server, content)):
        client = client_at(server.port)
        url = client.provider.token_endpoint
        tables = {"revocation_endpoint": url, "introspection_endpoint": url}
        client = replace(client, provider=client.provider.model_copy(update=tables))
        async with create_http_client(user_agent="x") as http:
            revoked = await TokenTools(http).revoke(client, Secret("rt-1"))
        async with create_http_client(user_agent="x") as http:
            return revoked, await TokenTools(http).introspect(client, Secret("rt-1"))


@pytest.mark.parametrize(
    ("content", "revoked", "introspected"),
    [
        pytest.param(answer(b""), True, Introspected.UNKNOWN, id="an empty body (RFC 7009)"),
        pytest.param(answer(b"", "204 No Content"), True, Introspected.UNKNOWN, id="no content"),
        pytest.param(answer(b'{"active": true}'), True, Introspected.GOOD, id="active"),
        pytest.param(answer(b'{"active": false}'), True, Introspected.SPENT, id="not active"),
        pytest.param(answer(b'{"active": "false"}'), True, Introspected.UNKNOWN, id="a word is no truth value"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + BROKEN, True, Introspected.UNKNOWN, id="a body that never came"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\n" + BROKEN + b'{"active": false}',
            True,
            Introspected.UNKNOWN,
            id="a body that broke off",
        ),
        pytest.param(b"HTTP/1.1 503 X\r\n" + BROKEN, False, Introspected.UNKNOWN, id="an error that broke off"),
        pytest.param(answer(b"", "400 X"), False, Introspected.UNKNOWN, id="an error"),
        pytest.param(b"", False, Introspected.UNKNOWN, id="nothing"),
    ],
)
async def test_a_status_is_an_answer_to_a_revocation(
    *, content: bytes, revoked: bool, introspected: Introspected
) -> None:
    """A success revokes whatever its body is; whether a token is good is told by a whole body only."""
    assert await asked(content) == (revoked, introspected)
