"""A TCP proxy on the loopback that does to connections, on command, what networks and failovers do to them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Final, Self, TypeVar

LOOPBACK: Final = "127.0.0.1"
_CHUNK: Final = 64 * 1024
#: Seconds; a command takes effect in well under a millisecond, this only turns a hang into an error.
_LIMIT: Final = 30.0
#: Seconds between looks whether everything has ended.
_CLOSING: Final = 0.1

T = TypeVar("T")


class TcpProxy:
    """Forwards from a port of its own, which stays, to a server's port, which may change.

    It runs on an event loop in a thread of its own, from `__enter__` to `__exit__`. Its methods are for other threads.

    Attributes:
        port: where it listens on the loopback.

    """

    port: int

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tcp-proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._server_port: int | None = None
        self._refusing = False
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._open: set[_Connection] = set()

    def lead_to(self, port: int) -> None:
        """Forward new connections to a port of the loopback from now on."""
        self._server_port = port

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

    def stall(self) -> None:
        """Take connections and bytes and pass nothing on, in either direction, until `flow`."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def flow(self) -> None:
        """Pass on what was held back, and everything after it."""
        self._loop.call_soon_threadsafe(self._flowing.set)

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._command(asyncio.start_server(self._serve, LOOPBACK, 0))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._command(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_LIMIT)
        self._loop.close()

    def _command(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_LIMIT)

    async def _cut(self) -> None:
        for connection in list(self._open):
            connection.abort()

    async def _close(self) -> None:
        listeners = [] if self._server is None else self._server.sockets
        for listener in listeners:
            # Closed at once, the server would leave a connection open that it has taken and not yet served.
            self._loop.remove_reader(listener.fileno())
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await self._cut()
            await asyncio.wait(others, timeout=_CLOSING)
        if self._server is not None:
            self._server.close()

    async def _serve(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        reached = None if self._refusing else await self._reach()
        if reached is None:
            to_client.transport.abort()
            return
        from_server, to_server = reached
        connection = _Connection(to_client, to_server)
        if self._refusing:  # it came while the server was being reached
            connection.abort()
            return
        self._open.add(connection)
        try:
            await connection.carry(from_client, from_server, self._flowing)
        finally:
            self._open.discard(connection)

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        if self._server_port is None:
            return None
        try:
            return await asyncio.open_connection(LOOPBACK, self._server_port)
        except OSError:
            return None


class _Connection:
    """One client's connection and the one that was opened to the server for it."""

    def __init__(self, to_client: asyncio.StreamWriter, to_server: asyncio.StreamWriter) -> None:
        self._to_client = to_client
        self._to_server = to_server
        self._pumps: list[asyncio.Task[None]] = []

    async def carry(
        self, from_client: asyncio.StreamReader, from_server: asyncio.StreamReader, flowing: asyncio.Event
    ) -> None:
        """Carry bytes both ways until one side ends."""
        self._pumps += [
            asyncio.create_task(_pump(from_client, self._to_server, flowing)),
            asyncio.create_task(_pump(from_server, self._to_client, flowing)),
        ]
        await asyncio.wait(self._pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        # Closed and not aborted: what was written already still goes out.
        self._to_client.close()
        self._to_server.close()

    def abort(self) -> None:
        """Break both sides off, as a reset."""
        self._to_client.transport.abort()
        self._to_server.transport.abort()
        for pump in self._pumps:
            pump.cancel()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flowing: asyncio.Event) -> None:
    try:
        while chunk := await reader.read(_CHUNK):
            await flowing.wait()
            writer.write(chunk)
            await writer.drain()
    except OSError:
        return
