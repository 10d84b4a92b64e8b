"""The one HTTP client of a process: httpx's API over aiohttp's connections.

httpx's own connection pool costs 13 ms of CPU per request at 200 connections, and can close a connection that is in
use; aiohttp's costs half a millisecond (measured in `make bench`).
"""

from __future__ import annotations

import ssl
from contextvars import ContextVar
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import SimpleNamespace
from typing import Any, Final

import aiohttp
import httpx
from aiohttp.connector import Connection
from httpx_aiohttp import AiohttpTransport

#: Many servers close an idle connection after 5 s. A request sent into a connection that is just being closed is in
#: doubt, so an idle connection is let go well before.
KEEPALIVE_SECONDS: Final = 2.0
#: Addresses are looked up again after this, so that a provider's failover is followed within a minute.
DNS_CACHE_SECONDS: Final = 30


class Departure:
    """Whether a request may have left this machine: set as soon as it has a connection to be written to."""

    __slots__ = ("may_have_left",)

    def __init__(self) -> None:
        self.may_have_left = False


departure: ContextVar[Departure | None] = ContextVar("departure", default=None)


async def _has_connection(_session: aiohttp.ClientSession, _context: SimpleNamespace, _params: Any) -> None:  # noqa: ANN401 -- aiohttp's signal type
    watched = departure.get()
    if watched is not None:
        watched.may_have_left = True


def _departure_trace() -> aiohttp.TraceConfig:
    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(_has_connection)
    trace.on_connection_reuseconn.append(_has_connection)
    return trace


class _Response(aiohttp.ClientResponse):
    """A response without its reason phrase, which a client should ignore (RFC 9112 section 4).

    The transport would encode it as UTF-8, and raise on one that is not: an answer with tokens in it would be lost.
    """

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        started = await super().start(connection)
        self.reason = ""
        return started


def create_http_client(*, user_agent: str, tls: ssl.SSLContext | None = None) -> httpx.AsyncClient:
    """Create the client that all token endpoint requests of this process go through.

    It follows no redirect, keeps no cookie, uses no proxy from the environment, and sets no limit of its own on
    connections: the drain's window and the client's `max_in_flight` are the limits. The kind of an exception does not
    tell whether a request was sent, for the transport maps a dropped connection to a connect timeout; `departure` does.

    Args:
        user_agent: who we say we are.
        tls: verification settings; the system's certificate store when absent.

    """
    verify = tls or httpx.create_ssl_context()

    def session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, ssl=verify, keepalive_timeout=KEEPALIVE_SECONDS, ttl_dns_cache=DNS_CACHE_SECONDS
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            response_class=_Response,
            trace_configs=[_departure_trace()],
        )

    return httpx.AsyncClient(
        transport=AiohttpTransport(verify=verify, client=session),
        # Both libraries keep cookies of their own; one owner's session must not go along with another's request.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        headers={"User-Agent": user_agent, "Accept": "application/json", "Accept-Encoding": "identity"},
        follow_redirects=False,
        trust_env=False,
    )
