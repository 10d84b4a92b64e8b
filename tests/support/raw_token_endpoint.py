"""A token endpoint made of a plain TCP server: it does to a connection, byte by byte, what a test's script says."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import httpx

from worker.domain.outcome import Outcome
from worker.domain.secret import Secret
from worker.oauth.client import Client
from worker.oauth.http_client import create_http_client
from worker.oauth.registry import build_registry
from worker.oauth.token_endpoint import TokenEndpoint

TOKENS = b'{"access_token": "at-2", "refresh_token": "rt-2", "expires_in": 3600}'


def answer(body: bytes = TOKENS, status: str = "200 OK", *headers: str) -> bytes:
    """Return a whole HTTP answer."""
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def error(code: str, status: str = "400 Bad Request") -> bytes:
    """Return an answer with an error code."""
    return answer(json.dumps({"error": code}).encode(), status)


@dataclass(slots=True, kw_only=True)
class Post:
    """A request that the server has read to its end."""

    connection: int
    headers: dict[str, str]
    form: bytes


Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True)
class Server:
    """A TCP server on loopback that does what a test's script says, and remembers what it was sent."""

    connections: int = 0
    posts: list[Post] = field(default_factory=list)
    port: int = 0

    async def read_post(self, reader: asyncio.StreamReader, connection: int | None = None) -> Post:
        """Read one request to its end and remember it; the peer's end of the connection raises."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        assert head[0] == "POST /token HTTP/1.1"
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
        form = await reader.readexactly(int(headers["content-length"]))
        post = Post(connection=connection or self.connections, headers=headers, form=form)
        self.posts.append(post)
        return post


@asynccontextmanager
async def serving(server: Server, script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """Run the script for each connection; what still runs at the end is stopped."""
    tasks: set[asyncio.Task[None]] = set()

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await script(reader, writer)
        finally:
            writer.close()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        task = asyncio.create_task(run(reader, writer))
        tasks.add(task)

    listening = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    failures = [result for result in results if isinstance(result, Exception)]
    assert not failures, failures


def client_at(port: int, *, secrets: tuple[str, ...] = ("cs-1",), timeout: str = "10s", scheme: str = "http") -> Client:
    """Configure a client at a provider on this port, whose facts are unknown."""
    provider = {
        "authorization_endpoint": f"{scheme}://127.0.0.1:{port}/authorize",
        "token_endpoint": f"{scheme}://127.0.0.1:{port}/token",
        "request_timeout": timeout,
    }
    references = [f"env:S{number}" for number in range(len(secrets))]
    registry = build_registry(
        catalogue={},
        providers={"p": provider},
        clients={"c": {"provider": "p", "client_id": "abc", "client_secret": references}},
        environment={f"S{number}": secret for number, secret in enumerate(secrets)},
        public_url="http://127.0.0.1",
    )
    return registry.client("c")


@asynccontextmanager
async def endpoint(tls: ssl.SSLContext | None = None) -> AsyncIterator[TokenEndpoint]:
    """Give a token endpoint over the one real HTTP client."""
    trust = httpx.create_ssl_context if tls is None else lambda: tls
    async with create_http_client(user_agent="Evergrant tests", trust=trust) as http:
        yield TokenEndpoint(http, time.monotonic)


async def refreshed(configured: Client, token: str = "rt-1", tls: ssl.SSLContext | None = None) -> Outcome:
    """Refresh once with an HTTP client of its own."""
    async with endpoint(tls) as asked:
        return (await asked.refresh(configured, Secret(token))).outcome


def always(server: Server, content: bytes) -> Script:
    """Answer every request on a connection alike, and keep the connection."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = server.connections
        while True:
            await server.read_post(reader, connection)
            writer.write(content)
            await writer.drain()

    return script


def then_close(server: Server, content: bytes) -> Script:
    """Read one request, send these bytes, and close."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_post(reader)
        writer.write(content)
        await writer.drain()

    return script


async def close_at_once(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Accept and close, before anything is read."""


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])
