"""The one HTTP client of a process: httpx's API over aiohttp's connections.

httpx's own connection pool costs 13 ms of CPU per request at 200 connections, and can close a connection that is in
use; aiohttp's costs half a millisecond (measured in `make bench`).
"""

from __future__ import annotations

import logging
import socket
import ssl
import tempfile
from collections.abc import Callable
from contextvars import ContextVar
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final

import aiohttp
import httpx
from aiohttp import AddrInfoType
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from httpx_aiohttp import AiohttpTransport
from httpx_aiohttp.transport import AiohttpResponseStream, map_aiohttp_exceptions

from worker.domain.loopback import is_loopback
from worker.oauth.addresses import is_public
from worker.oauth.client import ClientKey
from worker.oauth.route import Addresses, Route

#: Many servers close an idle connection after 5 s, gunicorn after 2 s. A request sent into a connection that is just
#: being closed is in doubt, so an idle connection is let go well before: measured against a server that closes after
#: 2 s, dropping after 2 s left 9 to 37 of 1,000 requests in doubt, dropping after 1 s none (`make bench`, keepalive).
KEEPALIVE_SECONDS: Final = 1.0
#: Addresses are looked up again after this, so that a provider's failover is followed within a minute.
DNS_CACHE_SECONDS: Final = 30
#: Longest header line of an answer, and most headers: far beyond what servers and their proxies send, for a token in an
#: answer that is refused for its headers is lost; and still no more than a few answers' worth of memory.
LONGEST_HEADER: Final = 64 * 1024
MOST_HEADERS: Final = 512
#: The request extension under which a request's `Route` goes to the transport.
ROUTE: Final = "route"
#: The response extension under which the transport gives what has arrived of a body and was not read.
UNREAD: Final = "unread"


class Departure:
    """Whether a request may have left this machine: set as soon as it has a connection to be written to."""

    __slots__ = ("may_have_left",)

    def __init__(self) -> None:
        self.may_have_left = False


departure: ContextVar[Departure | None] = ContextVar("departure", default=None)


class _Connector(aiohttp.TCPConnector):
    """Tells each request that it has a connection, new or used before: from then on it may have left."""

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 -- of aiohttp
    ) -> Connection:
        connection = await super().connect(req, traces, timeout)
        watched = departure.get()
        if watched is not None:
            watched.may_have_left = True
        return connection


class _Response(aiohttp.ClientResponse):
    """A response that gives out what has arrived of it."""

    def unread(self) -> bytes:
        """Return what has arrived and was not read. Once a connection has failed, aiohttp gives it out no more."""
        self.content.set_exception(None)  # type: ignore[arg-type] # it only stands in the way of the buffer
        return self.content.read_nowait()


class PrivateAddressError(OSError):
    """A name led to an address that requests must not go to."""

    def __init__(self) -> None:
        # Always the same words: of several failures, only those that say the same are told as what they are.
        super().__init__("the address is not public")


def _socket_factory(addresses: Addresses) -> Callable[[AddrInfoType], socket.socket]:
    """Return what makes the socket of each connection, and looks at the very address that it will go to."""

    def make(info: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        host = str(address[0])
        loopback = addresses is Addresses.LOOPBACK_TOO and is_loopback(host)
        if addresses is not Addresses.ANY and not loopback and not is_public(host):
            raise PrivateAddressError
        return socket.socket(family=family, type=kind, proto=protocol)

    return make


class _Transport(AiohttpTransport):
    """One pool of connections.

    The request goes out as the transport that it is made of would send it, with half of the work: headers are not read
    one by one, and the reason phrase, which a client should ignore (RFC 9112 section 4) and which need not be UTF-8, is
    not looked at: an answer with tokens in it would be lost.
    """

    def __init__(self, session: Callable[[], aiohttp.ClientSession], tls: ssl.SSLContext) -> None:
        super().__init__(verify=tls, client=session)
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._session is None:
            self.client = self._session = self.get_client()  # on the loop that will run it
        limits = request.extensions["timeout"]
        with map_aiohttp_exceptions():
            response = await self._session.request(
                request.method,
                str(request.url),
                headers=[(name.decode("ascii"), value.decode("ascii")) for name, value in request.headers.raw],
                data=await request.aread() or None,
                allow_redirects=False,
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(sock_connect=limits["connect"], sock_read=limits["read"]),
            )
        return httpx.Response(
            response.status,
            headers=response.raw_headers,
            stream=AiohttpResponseStream(response),
            request=request,
            extensions={UNREAD: response.unread} if isinstance(response, _Response) else {},
        )


class _Routed(httpx.AsyncBaseTransport):
    """One pool of connections for each route, made when it is first taken."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        self._pools: dict[Route, _Transport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        taken = request.extensions.get(ROUTE, Route())
        pool = self._pools.get(taken)
        if pool is None:
            pool = self._pools[taken] = self._pool(taken)
        return await pool.handle_async_request(request)

    async def aclose(self) -> None:
        for pool in self._pools.values():
            await pool.aclose()

    def _pool(self, taken: Route) -> _Transport:
        tls = self._tls if taken.key is None else with_certificate(self._tls, taken.key)

        def session() -> aiohttp.ClientSession:
            made = aiohttp.ClientSession(
                connector=_Connector(
                    limit=0,
                    ssl=tls,
                    keepalive_timeout=KEEPALIVE_SECONDS,
                    ttl_dns_cache=DNS_CACHE_SECONDS,
                    socket_factory=_socket_factory(taken.addresses),
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                max_line_size=LONGEST_HEADER,
                max_field_size=LONGEST_HEADER,
                max_headers=MOST_HEADERS,
                skip_auto_headers=("Content-Type",),  # a POST without a body has none
                response_class=_Response,
            )
            # aiohttp sends a GET again by itself when a used connection breaks, whether or not it had left.
            made._retry_connection = False  # noqa: SLF001 -- there is no public switch; a test holds it
            return made

        return _Transport(session, tls)


def with_certificate(trust: ssl.SSLContext, key: ClientKey) -> ssl.SSLContext:
    """Return TLS settings that trust the same authorities and show a client's certificate (RFC 8705 section 2).

    Raises:
        ssl.SSLError: when certificate and key do not go together; `check_key` finds that at the start.

    """
    context = ssl.create_default_context()
    authorities = b"".join(trust.get_ca_certs(binary_form=True))
    if authorities:
        context.load_verify_locations(cadata=authorities)
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


def create_http_client(*, user_agent: str, tls: ssl.SSLContext | None = None) -> httpx.AsyncClient:
    """Create the client that all requests to providers' endpoints go through.

    It follows no redirect, keeps no cookie, uses no proxy from the environment, and sets no limit of its own on
    connections: the drain's window and the client's `max_in_flight` are the limits. It connects to public addresses
    only, but for what a request's route allows. The kind of an exception does not tell whether a request was sent, for
    the transport maps a dropped connection to a connect timeout; `departure` does.

    Args:
        user_agent: who we say we are.
        tls: verification settings; the system's certificate store when absent.

    """
    return _Direct(
        transport=_Routed(tls or httpx.create_ssl_context()),
        # Both libraries keep cookies of their own; one owner's session must not go along with another's request.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        headers={"User-Agent": user_agent, "Accept": "application/json", "Accept-Encoding": "identity"},
        follow_redirects=False,
        trust_env=False,
    )


# httpx tells the whole address of each request at INFO, and where parameters go into the query it holds secrets.
logging.getLogger("httpx").addFilter(lambda _record: False)
