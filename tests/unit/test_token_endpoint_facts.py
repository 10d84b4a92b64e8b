"""The token endpoint under a provider's facts: methods, second exchanges, secrets, and what never leaves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from worker.domain.outcome import Cause, Dead, Misconfigured, Reason, Rotated, Unavailable
from worker.domain.secret import Secret
from worker.oauth.client import Client
from worker.oauth.http_client import create_http_client
from worker.oauth.registry import build_registry
from worker.oauth.token_endpoint import TokenEndpoint
from worker.oauth.token_tools import Introspected, TokenTools

pytestmark = pytest.mark.anyio

POST = "client_secret_post"


class Answering:
    """An HTTP server that gives its answers in turn and remembers what it was asked."""

    def __init__(self, *answers: tuple[int, bytes]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, str, dict[str, str]]] = []  # method, path, parameters
        self.headers: list[str] = []
        self.port = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, target, _ = head.partition("\r\n")[0].split(" ")
        lengths = [line.partition(":")[2] for line in head.lower().split("\r\n") if line.startswith("content-length:")]
        body = (await reader.readexactly(int(lengths[0]))).decode() if lengths else ""
        parts = urlsplit(target)
        self.asked.append((method, parts.path, dict(parse_qsl(parts.query)) | dict(parse_qsl(body))))
        self.headers.append(head)
        status, content = self.answers[min(len(self.asked), len(self.answers)) - 1]
        length = b"" if status == 204 else b"Content-Length: %d\r\n" % len(content)
        writer.write(b"HTTP/1.1 %d X\r\nConnection: close\r\n" % status + length + b"\r\n" + content)
        await writer.drain()
        writer.close()

    def client(self, facts: Mapping[str, Any], *secrets: str) -> Client:
        """Build a client of a provider at this server."""
        base = f"http://127.0.0.1:{self.port}"
        table = {"authorization_endpoint": f"{base}/a", "token_endpoint": f"{base}/t", **facts}
        names = {f"S{number}": secret for number, secret in enumerate(secrets or ("cs-1",))}
        registry = build_registry(
            catalogue={"acme": table},
            providers={},
            clients={"c": {"provider": "acme", "client_id": "abc", "client_secret": [f"env:{name}" for name in names]}},
            environment=names,
            public_url="https://tokens.example",
        )
        return registry.client("c")


@asynccontextmanager
async def serving(server: Answering) -> AsyncIterator[tuple[TokenEndpoint, TokenTools]]:
    """Run the server, and give what asks it."""
    listening = await asyncio.start_server(server, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    async with listening, create_http_client(user_agent="Evergrant tests") as http:
        yield TokenEndpoint(http, lambda: 0.0), TokenTools(http)


TOKENS = (200, b'{"access_token": "at-2", "refresh_token": "rt-2"}')


async def test_a_get_with_secrets_in_its_query_is_logged_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    """Everything arrives in the query, and no library tells the address of the request."""
    caplog.set_level(logging.DEBUG)
    server = Answering(TOKENS)
    async with serving(server) as (asked, _):
        configured = server.client({"client_auth": POST, "refresh": {"method": "GET"}}, "hunter2")
        outcome = (await asked.refresh(configured, Secret("rt hunter3 +"))).outcome

    assert isinstance(outcome, Rotated)
    assert server.asked == [
        (
            "GET",
            "/t",
            {
                "grant_type": "refresh_token",
                "refresh_token": "rt hunter3 +",
                "client_id": "abc",
                "client_secret": "hunter2",
            },
        )
    ]
    assert "hunter" not in caplog.text
    assert "content-type" not in server.headers[0].lower()


async def test_the_providers_own_user_agent_replaces_ours() -> None:
    """Reddit asks for a descriptive one; Accept stays JSON."""
    server = Answering(TOKENS)
    async with serving(server) as (asked, _):
        await asked.refresh(server.client({"headers": {"User-Agent": "linux:acme:v1"}}), Secret("rt"))

    assert server.headers[0].lower().count("user-agent:") == 1
    assert "linux:acme:v1" in server.headers[0]
    assert "application/json" in server.headers[0]


async def test_a_code_whose_token_is_exchanged_once_more() -> None:
    """Instagram: what is returned is the second answer, with what the first one said of the owner."""
    upgrade = {"method": "GET", "params": {"grant_type": "ig_exchange_token", "access_token": "{access_token}"}}
    facts = {
        "client_auth": POST,
        "style": "token_exchange",
        "upgrade": upgrade,
        "answer": {"account": "user_id", "capture": {"permissions": "permissions"}},
    }
    first = (200, b'{"access_token": "short", "user_id": 17, "permissions": "p", "scope": "a"}')
    server = Answering(first, (200, b'{"access_token": "long", "expires_in": 5184000}'))
    async with serving(server) as (asked, _):
        outcome = (await asked.exchange_code(server.client(facts), Secret("c-1"), None)).outcome

    assert isinstance(outcome, Rotated)
    tokens = outcome.tokens
    assert (tokens.access_token, tokens.refresh_token) == (Secret("long"), Secret("long"))
    assert (tokens.account, tokens.scopes, tokens.captured) == ("17", ("a",), {"permissions": "p"})
    assert tokens.refresh_lifetime == tokens.access_lifetime is not None
    assert server.asked[1][2]["access_token"] == "short"


@pytest.mark.parametrize("answers", [[(400, b'{"error": "invalid_grant"}')], [TOKENS, (400, b'{"error": "odd"}')]])
async def test_a_failed_exchange_is_the_outcome(answers: list[tuple[int, bytes]]) -> None:
    """Whichever of the two fails, there is nothing that could be kept alive, and the owner is told."""
    server = Answering(*answers)
    async with serving(server) as (asked, _):
        configured = server.client({"upgrade": {"params": {"access_token": "{access_token}"}}})
        outcome = (await asked.exchange_code(configured, Secret("c-1"), None)).outcome

    assert isinstance(outcome, Dead | Unavailable)
    assert len(server.asked) == len(answers)


async def test_the_next_secret_is_tried_on_the_providers_own_word_for_it() -> None:
    """A rule that blames the client secret is as good as `invalid_client`; a rule that blames something else is not."""
    facts = {
        "client_auth": POST,
        "errors": [
            {"value": "incorrect_client_credentials", "outcome": "misconfigured"},
            {"value": "no_such_scope", "outcome": "misconfigured", "reason": "invalid_scope"},
        ],
    }
    wrong = (200, b'{"error": "incorrect_client_credentials"}')
    server, other = Answering(wrong, TOKENS), Answering((200, b'{"error": "no_such_scope"}'))
    async with serving(server) as (asked, _):
        accepted = (await asked.refresh(server.client(facts, "cs-1", "cs-2"), Secret("rt"))).outcome
    async with serving(other) as (asked, _):
        refused = (await asked.refresh(other.client(facts, "cs-1", "cs-2"), Secret("rt"))).outcome

    assert isinstance(accepted, Rotated)
    assert [asked[2]["client_secret"] for asked in server.asked] == ["cs-1", "cs-2"]
    assert isinstance(refused, Misconfigured)
    assert len(other.asked) == 1


async def test_a_request_that_lacks_a_value_is_not_sent() -> None:
    """Nothing left this machine, nothing is spent, and the code names what is missing."""
    server = Answering(TOKENS)
    async with serving(server) as (asked, _):
        facts = {"refresh": {"params": {"access_token": "{access_token}"}}}
        lacking = await asked.refresh(server.client(facts), Secret("rt"))
        given = await asked.refresh(server.client(facts), Secret("rt"), access_token=Secret("at-1"))

    cause = Cause(reason=Reason.REQUEST_INCOMPLETE, code="access_token")
    assert lacking.outcome == Unavailable(cause=cause, sent=False)
    assert isinstance(given.outcome, Rotated)
    assert [asked[2]["access_token"] for asked in server.asked] == ["at-1"]


async def test_what_was_captured_leads_the_request() -> None:
    """A value that is kept with the grant fills the provider's address."""
    server = Answering(TOKENS)
    async with serving(server) as (asked, _):
        facts = {
            "placeholders": {"company": {"source": "answer", "pattern": "[a-z]+"}},
            "refresh": {"endpoint": f"http://127.0.0.1:{server.port}/t/{{company}}"},
        }
        await asked.refresh(server.client(facts), Secret("rt"), captured={"company": "acme"})

    assert server.asked[0][1] == "/t/acme"


async def test_a_step_has_its_own_way_to_answer() -> None:
    """The code's tokens stand elsewhere than those of a refresh."""
    facts = {"code": {"answer": {"path": "authed_user", "account": "authed_user.id"}}}
    nested = (200, b'{"access_token": "bot", "authed_user": {"id": "U1", "access_token": "at", "refresh_token": "rt"}}')
    server = Answering(nested, TOKENS)
    async with serving(server) as (asked, _):
        consented = (await asked.exchange_code(server.client(facts), Secret("c"), None)).outcome
        refreshed = (await asked.refresh(server.client(facts), Secret("rt"))).outcome

    assert isinstance(consented, Rotated)
    assert (consented.tokens.access_token, consented.tokens.account) == (Secret("at"), "U1")
    assert isinstance(refreshed, Rotated)
    assert refreshed.tokens.access_token == Secret("at-2")


@pytest.mark.parametrize(("status", "taken"), [(200, True), (204, True), (400, False), (503, False), (302, False)])
async def test_a_revocation_by_the_facts(status: int, *, taken: bool) -> None:
    """HubSpot: DELETE at an address that holds the token; any 2xx says that it was taken."""
    server = Answering((status, b""))
    async with serving(server) as (_, tools):
        facts = {
            "revocation_endpoint": f"http://127.0.0.1:{server.port}/tokens/{{refresh_token}}",
            "revoke": {"method": "DELETE", "client_auth": "none", "omit": ["token", "token_type_hint", "client_id"]},
        }
        assert await tools.revoke(server.client(facts), Secret("rt/1")) is taken

    assert server.asked == [("DELETE", "/tokens/rt%2F1", {})]


async def test_a_revocation_that_lacks_a_value_is_not_made() -> None:
    """Where the access token is needed and not at hand, nothing is sent, and it was not taken."""
    server = Answering((200, b""))
    async with serving(server) as (_, tools):
        facts = {
            "revocation_endpoint": f"http://127.0.0.1:{server.port}/r",
            "introspection_endpoint": f"http://127.0.0.1:{server.port}/i",
            "revoke": {"headers": {"Authorization": "Bearer {access_token}"}, "client_auth": "none"},
        }
        configured = server.client(facts)
        assert not await tools.revoke(configured, Secret("rt"))
        assert await tools.revoke(configured, Secret("rt"), access_token=Secret("at-1"))
        assert await tools.introspect(configured, Secret("rt")) is Introspected.UNKNOWN

    assert "Bearer at-1" in server.headers[0]
    assert [path for _, path, _ in server.asked] == ["/r", "/i"]
