"""The one HTTP client of a process: httpx's API over connections of our own.

Each token of a refresh token's life goes through here, so it holds no more than that takes: no redirects, no cookies,
no proxies, no second sending by itself, and every request knows whether it may have left.
"""

from __future__ import annotations

import logging
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final

import httpx

from worker.oauth.client import ClientKey
from worker.oauth.http_connection import HttpConnection
from worker.oauth.http_pool import HttpPool, Server
from worker.oauth.name_cache import NameCache
from worker.oauth.route import Route

#: The request extension under which a request's `Route` goes to the transport.
ROUTE: Final = "route"
#: The request extension under which the transport is told when the last byte of the answer must be there, by the loop's
#: clock, in seconds.
DEADLINE: Final = "deadline"
#: The request extension under which the transport is told what a request's address may be called where others read it.
ENDPOINT: Final = "endpoint"
#: The response extension under which the transport gives what has arrived of a body and was not read.
UNREAD: Final = "unread"
_PORTS: Final = {"http": 80, "https": 443}
#: Methods whose requests say that they have no body when they have none (RFC 9110 section 8.6).
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
#: Headers that say where a request goes and where it ends.
_WRITTEN_HERE: Final = frozenset({b"host", b"content-length", b"transfer-encoding"})
_NO_LIMITS: Final[dict[str, float | None]] = {}


class Departure:
    """Whether a request may have left this machine: set as soon as it has a connection to be written to."""

    __slots__ = ("may_have_left",)

    def __init__(self) -> None:
        self.may_have_left = False


departure: ContextVar[Departure | None] = ContextVar("departure", default=None)


class _Body(httpx.AsyncByteStream):
    """An answer's body, on its connection; closed, it gives the connection back."""

    __slots__ = ("_connection", "_limit", "_pool", "_server")

    def __init__(self, pool: HttpPool, server: Server, connection: HttpConnection, limit: float | None) -> None:
        self._pool = pool
        self._server = server
        self._connection: HttpConnection | None = connection
        self._limit = limit

    def __aiter__(self) -> AsyncIterator[bytes]:
        if self._connection is None:
            raise httpx.StreamClosed
        return self._connection.body(self._limit)

    async def aclose(self) -> None:
        """Leave the answer, read to its end or not."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.give_back(self._server, connection)


class Transport(httpx.AsyncBaseTransport):
    """Sends requests of httpx's, each once, over one pool of connections for each route."""

    def __init__(self, trust: Callable[[], ssl.SSLContext]) -> None:
        self._trust = trust
        self._tls = trust()
        self._names = NameCache()
        self._pools: dict[Route, HttpPool] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return its answer, whose body is still to be read.

        Raises:
            httpx.TransportError: when there is none; whether the request left, `departure` tells, and not the kind.

        """
        server = _server(request.url)
        content = _written(request, await _content(request))
        pool = self._pool(request.extensions.get(ROUTE, _ANY_ROUTE))
        limits = request.extensions.get("timeout", _NO_LIMITS)
        connection = await pool.connection(server, limits.get("connect"))
        watched = departure.get()
        try:
            if watched is not None:
                watched.may_have_left = True
            connection.send(content, request.extensions.get(DEADLINE), wants_body=request.method != "HEAD")
            await connection.sent(limits.get("write"))
            await connection.head(limits.get("read"))
        except BaseException:
            pool.give_back(server, connection)
            raise
        answer = connection.answer
        status, headers = answer.status, answer.headers
        if answer.is_whole:
            # As answers of token endpoints are, nearly always: it came at once, and its connection is free.
            body = httpx.ByteStream(connection.take())
            pool.give_back(server, connection)
            return httpx.Response(status, headers=headers, stream=body, request=request)
        return httpx.Response(
            status,
            headers=headers,
            stream=_Body(pool, server, connection, limits.get("read")),
            request=request,
            extensions={UNREAD: connection.take},
        )

    async def aclose(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            await pool.aclose()
        self._names.close()

    def _pool(self, taken: Route) -> HttpPool:
        pool = self._pools.get(taken)
        if pool is None:
            tls = self._tls if taken.key is None else showing(self._trust(), taken.key)
            pool = self._pools[taken] = HttpPool(taken.addresses, tls, self._names)
        return pool


_ANY_ROUTE: Final = Route()


def _server(url: httpx.URL) -> Server:
    port = url.port or _PORTS.get(url.scheme)
    host = url.raw_host.decode("ascii")
    if port is None or not host:
        raise httpx.UnsupportedProtocol("only http and https can be asked")
    return Server(host=host, port=port, tls=url.scheme == "https")


async def _content(request: httpx.Request) -> bytes:
    # What is in memory is read without a turn through asynchronous iteration.
    return b"".join(request.stream) if isinstance(request.stream, httpx.ByteStream) else await request.aread()


def _written(request: httpx.Request, body: bytes) -> bytes:
    """Return a request as it goes out (RFC 9112 section 3).

    Raises:
        httpx.LocalProtocolError: when a header would end its line.
        httpx.UnsupportedProtocol: for a method whose answer could not be read.

    """
    if request.method == "CONNECT":
        raise httpx.UnsupportedProtocol("CONNECT is not supported: it would make a tunnel")
    url = request.url
    lines = [b"%s %s HTTP/1.1" % (request.method.encode("ascii"), url.raw_path), b"Host: " + url.netloc]
    lines += [name + b": " + value for name, value in request.headers.raw if name.lower() not in _WRITTEN_HERE]
    if body or request.method in _WITH_BODY:
        lines.append(b"Content-Length: %d" % len(body))
    head = b"\r\n".join(lines)
    if not head.count(b"\r") == head.count(b"\n") == len(lines) - 1 or b"\0" in head:
        raise httpx.LocalProtocolError("a line of the request's head holds a line break")
    return head + b"\r\n\r\n" + body


def showing(context: ssl.SSLContext, key: ClientKey) -> ssl.SSLContext:
    """Return TLS settings, made to show a client's certificate (RFC 8705 section 2).

    They are to be newly made, as those of all other requests are: what a context trusts cannot be read out of it whole,
    for it gives neither a folder of authorities nor a certificate that is trusted and is no authority's.

    Args:
        context: settings that nobody else uses.
        key: the client's certificate and its private key.

    Raises:
        ssl.SSLError: when certificate and key do not go together; `check_key` finds that at the start.

    """
    # Python reads certificates from files only. This one is ours alone and gone in a moment.
    with tempfile.NamedTemporaryFile() as file:
        file.write(f"{key.certificate}\n{key.private_key.reveal()}\n".encode())
        file.flush()
        context.load_cert_chain(file.name)
    return context


class _Direct(httpx.AsyncClient):
    """Sends each request as it is, once.

    What httpx does around a request that has neither authentication, redirects nor cookies costs as much as sending it.
    """

    async def send(self, request: httpx.Request, *, stream: bool = False, **options: Any) -> httpx.Response:  # noqa: ANN401 -- of httpx
        """Send a request and return its answer, whose body is still to be read where `stream` says so."""
        if options or not stream:
            return await super().send(request, stream=stream, **options)
        return await self._transport_for_url(request.url).handle_async_request(request)


def create_http_client(
    *,
    user_agent: str,
    trust: Callable[[], ssl.SSLContext] = httpx.create_ssl_context,
    transport: type[Transport] = Transport,
) -> httpx.AsyncClient:
    """Create the client that all requests to providers' endpoints go through.

    It follows no redirect, keeps no cookie, uses no proxy from the environment, and sets no limit of its own on
    connections: the drain's window and the client's `max_in_flight` are the limits. It connects to public addresses
    only, but for what a request's route allows. The kind of an exception does not tell whether a request was sent;
    `departure` does.

    Args:
        user_agent: who we say we are.
        trust: makes verification settings, anew for each certificate that is shown; httpx's own when absent, which are
            those of SSL_CERT_FILE, of SSL_CERT_DIR, or of certifi.
        transport: what sends the requests; one that also makes spans of them, where they are traced.

    """
    return _Direct(
        transport=transport(trust),
        # Both libraries keep cookies of their own; one owner's session must not go along with another's request.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        headers={"User-Agent": user_agent, "Accept": "application/json", "Accept-Encoding": "identity"},
        follow_redirects=False,
        trust_env=False,
    )


# httpx tells the whole address of each request at INFO, and where parameters go into the query it holds secrets.
logging.getLogger("httpx").addFilter(lambda _record: False)
