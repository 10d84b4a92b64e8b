"""A TCP proxy on the loopback that does to connections, on command, what networks and failovers do to them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

_CHUNK: Final = 64 * 1024
_LIMIT_S: Final = 30.0  # a command takes effect in well under a millisecond; this only turns a hang into an error
#: Seconds between looks whether everything has ended.
_CLOSING: Final = 0.1

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class _Connection:
    """One client's connection and the one that was opened to the server for it."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    loses_reply: bool = False
    pumps: list[asyncio.Task[None]] = field(default_factory=list)

    def abort(self) -> None:
        self.client.transport.abort()
        self.server.transport.abort()
        for pump in self.pumps:
            pump.cancel()


class TcpProxy:
    """Forwards to the server of a URL, for as long as a `with` block.

    Args:
        url: where the server really is; `url` of the started proxy is the same with the proxy's own host and port.
        port: where to listen; a free one if it is 0.

    Attributes:
        url: what the client is given instead.
        refused: how many connections were broken off at once.
        held: how many answers wait for `release`.
        replies_lost: how many answers `lose_reply_to` has thrown away.

    """

    url: str

    def __init__(self, url: str, *, port: int = 0) -> None:
        self._original = urlsplit(url)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tcp-proxy", daemon=True)
        self._connections: set[_Connection] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._port = port
        self._refusing = False
        self._marker: bytes | None = None
        self.refused = 0
        self.held = 0
        self.replies_lost = 0

    def cut(self) -> None:
        """Break off every connection there is; new ones are forwarded."""
        self._command(self._cut())

    def refuse(self) -> None:
        """Break off every connection there is, and each new one at once, until `accept`."""
        self._refusing = True
        self.cut()

    def accept(self) -> None:
        """Forward new connections again."""
        self._refusing = False

    def hold(self) -> None:
        """Let requests through and keep the answers back, until `release`."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def release(self) -> None:
        """Deliver the answers that were kept back, and let the next ones through."""
        self._loop.call_soon_threadsafe(self._flowing.set)

    def lose_reply_to(self, marker: bytes) -> None:
        """Deliver the next request that contains `marker`, throw away its answer and cut the connection."""
        self._marker = marker

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._command(asyncio.start_server(self._serve, "127.0.0.1", self._port))
        port = self._server.sockets[0].getsockname()[1]
        user, at, _address = self._original.netloc.rpartition("@")
        self.url = urlunsplit(self._original._replace(netloc=f"{user}{at}127.0.0.1:{port}"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._command(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_LIMIT_S)
        self._loop.close()

    def _command(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_LIMIT_S)

    async def _cut(self) -> None:
        for connection in list(self._connections):
            connection.abort()

    async def _close(self) -> None:
        for listener in self._server.sockets:
            # Closed at once, the server would leave a connection open that it has taken and not yet served.
            self._loop.remove_reader(listener.fileno())
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await self._cut()
            await asyncio.wait(others, timeout=_CLOSING)
        self._server.close()

    async def _serve(self, from_client: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        if self._refusing:
            self.refused += 1
            client.transport.abort()
            return
        try:
            from_server, server = await asyncio.open_connection(self._original.hostname, self._original.port)
        except OSError:
            client.transport.abort()
            return
        connection = _Connection(client=client, server=server)
        self._connections.add(connection)
        connection.pumps += [
            asyncio.create_task(self._forward_requests(from_client, connection)),
            asyncio.create_task(self._forward_answers(from_server, connection)),
        ]
        try:
            await asyncio.wait(connection.pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._connections.discard(connection)
            for pump in connection.pumps:
                pump.cancel()
            # Closed and not aborted: what was written already still goes out.
            client.close()
            server.close()

    async def _forward_requests(self, from_client: asyncio.StreamReader, connection: _Connection) -> None:
        while chunk := await _read(from_client):
            if self._marker is not None and self._marker in chunk:
                self._marker, connection.loses_reply = None, True
            connection.server.write(chunk)

    async def _forward_answers(self, from_server: asyncio.StreamReader, connection: _Connection) -> None:
        while chunk := await _read(from_server):
            if connection.loses_reply:
                self.replies_lost += 1
                connection.abort()
                return
            if not self._flowing.is_set():
                self.held += 1
                try:
                    await self._flowing.wait()
                finally:
                    self.held -= 1
            connection.client.write(chunk)


async def _read(reader: asyncio.StreamReader) -> bytes:
    """Return the next bytes, or none when the connection has ended in whatever way."""
    try:
        return await reader.read(_CHUNK)
    except OSError:
        return b""
