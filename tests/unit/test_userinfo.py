"""Asking whose account an access token is for: the request, and what is made of every answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from tests.support.raw_token_endpoint import Server, answer, free_port, serving
from worker.domain.secret import Secret
from worker.oauth.client import Client
from worker.oauth.http_client import create_http_client
from worker.oauth.registry import build_registry
from worker.oauth.userinfo import TRIES, Userinfo, userinfo_request

TOKEN = Secret("at-1/+2=")
ADA = answer(json.dumps({"sub": "ada", "user": {"id": 7}}).encode())


def client(endpoint: str = "https://api.acme.example/me", **provider: Any) -> Client:
    """Build a client whose provider has these keys."""
    table = {
        "authorization_endpoint": "https://login.acme.example/authorize",
        "token_endpoint": "https://api.acme.example/token",
        "userinfo_endpoint": endpoint,
        "request_timeout": "3s",
        **provider,
    }
    registry = build_registry(
        catalogue={},
        providers={"acme": table},
        clients={"c": {"provider": "acme", "client_id": "abc", "client_secret": "env:S"}},
        environment={"S": "hunter2"},
        public_url="https://tokens.example",
    )
    return registry.client("c")


def built(configured: Client) -> tuple[str, str, dict[str, str], bytes]:
    """Return method, URL, headers and body of the request."""
    endpoint = configured.provider.userinfo_endpoint
    assert endpoint is not None
    request = userinfo_request(configured, endpoint, TOKEN, {"tenant": "eu"})
    assert TOKEN in request.secrets
    assert TOKEN.reveal() not in repr(request)
    return request.method, request.url, dict(request.headers), request.content


def test_the_request_carries_the_access_token_in_its_header() -> None:
    """RFC 6750 section 2.1, and nothing of the client's own secret goes along."""
    url = "https://api.acme.example/me"
    assert built(client()) == ("GET", url, {"Authorization": f"Bearer {TOKEN.reveal()}"}, b"")


def test_a_provider_may_want_it_otherwise() -> None:
    """Another header, parameters in the query or in a form, and an address of the account's own."""
    raw = client(userinfo={"headers": {"authorization": "{access_token}"}, "params": {"fields": "id"}})
    url = "https://api.acme.example/me?fields=id"
    assert built(raw) == ("GET", url, {"authorization": TOKEN.reveal()}, b"")

    posted = client(
        "https://{tenant}.acme.example/me",
        placeholders={"tenant": {"source": "answer", "pattern": "[a-z]+"}},
        headers={"User-Agent": "us"},
        userinfo={"method": "POST", "params": {"fields": "id"}},
    )
    headers = {
        "User-Agent": "us",
        "Authorization": f"Bearer {TOKEN.reveal()}",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    assert built(posted) == ("POST", "https://eu.acme.example/me", headers, b"fields=id")


async def asked(answers: Sequence[bytes], **provider: Any) -> tuple[str | None, int]:
    """Ask a server that gives these answers, and return the account and how often it was asked."""
    server, left = Server(), list(answers)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if left:
            writer.write(left.pop(0))
            await writer.drain()

    async with serving(server, script), create_http_client(user_agent="Evergrant tests") as http:
        configured = client(f"http://127.0.0.1:{server.port}/me", **provider)
        account = await Userinfo(http).account(configured, TOKEN, {})
    return account, server.connections


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answers", "path", "account", "times"),
    [
        ([ADA], "sub", "ada", 1),
        ([ADA], "user.id", "7", 1),
        ([answer(b"", "503 Service Unavailable"), ADA], "sub", "ada", 2),
        ([b"", answer(b"", "429 Too Many Requests"), ADA], "sub", "ada", 3),
        ([answer(b"", "500 Internal Server Error")] * 5, "sub", None, TRIES),
        ([answer(b"{}", "401 Unauthorized"), ADA], "sub", None, 1),
        ([answer(b"{}", "302 Found", "Location: https://evil.example/")], "sub", None, 1),
        ([ADA], "name", None, 1),
        ([answer(b"<html>")], "sub", None, 1),
        ([answer(json.dumps({"sub": TOKEN.reveal()}).encode())], "sub", None, 1),
        ([answer(json.dumps({"sub": "x" * 513}).encode())], "sub", None, 1),
        ([answer(json.dumps({"sub": ["ada"]}).encode())], "sub", None, 1),
    ],
)
async def test_the_account_is_what_stands_where_the_facts_say(
    answers: list[bytes], path: str, account: str | None, times: int
) -> None:
    """What comes and goes is asked again; what is no id, or repeats the token, is none."""
    assert await asked(answers, userinfo={"account": path}) == (account, times)


@pytest.mark.anyio
async def test_a_server_that_is_not_there_tells_nothing() -> None:
    """Nothing is raised, and the consent goes on without."""
    async with create_http_client(user_agent="Evergrant tests") as http:
        assert await Userinfo(http).account(client(f"http://127.0.0.1:{free_port()}/me"), TOKEN, {}) is None
        unfilled = client(
            "https://{tenant}.acme.example/me", placeholders={"tenant": {"source": "answer", "pattern": "[a-z]+"}}
        )
        assert await Userinfo(http).account(unfilled, TOKEN, {}) is None
