"""The connections to the servers of one route: made when they are wanted, kept for a moment, never more than asked for.

httpx's own pool costs 13 ms of CPU per request at 200 connections and can close a connection that is in use; aiohttp's
costs a quarter of a millisecond more than this one (`make bench`, profile).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from typing import Final, NamedTuple

import httpx
from aiohappyeyeballs import AddrInfoType, start_connection

from worker.domain.loopback import is_loopback
from worker.oauth.addresses import is_public
from worker.oauth.http_connection import HttpConnection
from worker.oauth.name_cache import NameCache
from worker.oauth.route import Addresses

#: Many servers close an idle connection after 5 s, gunicorn after 2 s. A request sent into a connection that is just
#: being closed is in doubt, so an idle connection is let go well before: measured against a server that closes after
#: 2 s, dropping after 2 s left 9 to 37 of 1,000 requests in doubt, dropping after 1 s none (`make bench`, keepalive).
#: A new connection makes a whole TLS handshake: asyncio's transports take no session to resume. Under load connections
#: are used again within milliseconds, and a provider that is asked once a minute costs one handshake a minute.
KEEPALIVE_SECONDS: Final = 1.0
#: With several addresses, the next one is tried beside one that is silent for so many seconds (RFC 8305 section 5).
NEXT_ADDRESS_SECONDS: Final = 0.25
#: Seconds that a connection which we end may take over TLS's good-bye.
TLS_GOODBYE_SECONDS: Final = 1.0


class PrivateAddressError(OSError):
    """A name led to an address that requests must not go to."""

    def __init__(self) -> None:
        # Always the same words: of several failures, only those that say the same are told as what they are.
        super().__init__("the address is not public")


class Server(NamedTuple):
    """Whose connections can be used for each other."""

    host: str
    port: int
    tls: bool


class HttpPool:
    """The connections of one route.

    Args:
        addresses: which ones a connection may be made to.
        tls: verification settings, and our certificate where one is shown.
        names: the process's.

    """

    def __init__(self, addresses: Addresses, tls: ssl.SSLContext, names: NameCache) -> None:
        self._addresses = addresses
        self._tls = tls
        self._names = names
        self._idle: dict[Server, deque[HttpConnection]] = {}
        self._used: set[HttpConnection] = set()
        self._sweep: asyncio.TimerHandle | None = None

    async def connection(self, server: Server, limit: float | None) -> HttpConnection:
        """Return a connection that nobody else uses; give it back with `give_back`.

        Args:
            server: where to.
            limit: seconds for a new one, from the look-up of the name to the end of the handshake.

        Raises:
            httpx.ConnectTimeout: when it took longer.
            httpx.ConnectError: when there is no way there; `__cause__` is why.

        """
        connection = self._kept(server)
        if connection is None:
            try:
                async with asyncio.timeout(limit):
                    connection = await self._connect(server)
            except TimeoutError as error:
                raise httpx.ConnectTimeout("no connection was made in time") from error
            except (OSError, UnicodeError) as error:
                raise httpx.ConnectError(str(error) or type(error).__name__) from error
            if not connection.is_open():
                raise httpx.ConnectError("the connection was closed as soon as it was made")
        self._used.add(connection)
        return connection

    def give_back(self, server: Server, connection: HttpConnection) -> None:
        """Keep a connection whose answer was read to its end; close any other."""
        self._used.discard(connection)
        if not connection.end():
            return
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        self._idle.setdefault(server, deque()).append(connection)
        if self._sweep is None:
            self._sweep = loop.call_later(KEEPALIVE_SECONDS, self._drop_old, loop)

    async def aclose(self) -> None:
        """Close all."""
        if self._sweep is not None:
            self._sweep.cancel()
        idle = [connection for kept in self._idle.values() for connection in kept]
        self._idle.clear()
        for connection in (*idle, *self._used):
            connection.close()
        await asyncio.sleep(0)  # the transports close their sockets in the loop's next turn

    def _kept(self, server: Server) -> HttpConnection | None:
        kept = self._idle.get(server)
        oldest = asyncio.get_running_loop().time() - KEEPALIVE_SECONDS
        while kept:
            connection = kept.pop()  # the one that was used last is the least likely to be closed by the server
            if connection.is_open() and connection.idle_since > oldest and connection.is_quiet():
                return connection
            connection.close()
        return None

    def _drop_old(self, loop: asyncio.AbstractEventLoop) -> None:
        self._sweep = None
        oldest = loop.time() - KEEPALIVE_SECONDS
        for server, kept in list(self._idle.items()):
            while kept and (kept[0].idle_since <= oldest or not kept[0].is_open()):
                kept.popleft().close()
            if not kept:
                del self._idle[server]
        since = min((kept[0].idle_since for kept in self._idle.values()), default=None)
        if since is not None:
            self._sweep = loop.call_at(since + KEEPALIVE_SECONDS, self._drop_old, loop)

    async def _connect(self, server: Server) -> HttpConnection:
        loop = asyncio.get_running_loop()
        made = await start_connection(
            await self._names.addresses(server.host, server.port),
            happy_eyeballs_delay=NEXT_ADDRESS_SECONDS,
            loop=loop,
            socket_factory=self._socket,
        )
        connections: list[HttpConnection] = []

        def taken_over() -> HttpConnection:
            connections.append(HttpConnection(loop))
            return connections[0]

        try:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _, connection = await loop.create_connection(
                taken_over,
                sock=made,
                ssl=self._tls if server.tls else None,
                server_hostname=server.host if server.tls else None,
                ssl_shutdown_timeout=TLS_GOODBYE_SECONDS if server.tls else None,
            )
        except BaseException:
            # From the factory on a transport has the socket, and must be the one to close it: a number that is free is
            # used again at once, by a socket that the loop would take for this one.
            for connection in connections:
                connection.abort()
            if not connections:
                made.close()
            raise
        return connection

    def _socket(self, info: AddrInfoType) -> socket.socket:
        """Make the socket of a connection, and look at the very address that it will go to."""
        family, kind, protocol, _, address = info
        host = str(address[0])
        loopback = self._addresses is Addresses.LOOPBACK_TOO and is_loopback(host)
        if self._addresses is not Addresses.ANY and not loopback and not is_public(host):
            raise PrivateAddressError
        return socket.socket(family=family, type=kind, proto=protocol)
