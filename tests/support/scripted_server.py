"""A server that stands in for every host of a provider: it takes down what it is sent and gives scripted answers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

#: What the connection says of itself, and no provider documents.
_OF_THE_CONNECTION: Final = frozenset({"host", "content-length", "accept-encoding", "connection"})


class ScriptedServer:
    """A server on loopback that answers with status 200 and one body after the other.

    Args:
        bodies: the answers, in order; a request beyond the last is cut off.
        date: the answers' `Date`.

    """

    def __init__(self, bodies: Sequence[str], *, date: str) -> None:
        self._bodies = list(bodies)
        self._date = date
        self._server: asyncio.Server | None = None
        self._port = 0
        self.received: list[tuple[str, str, dict[str, str], str]] = []
        """Method, URL, headers (lower case) and body of each request, the URL with the host that was stood in for."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    def standing_in_for(self, table: Mapping[str, Any]) -> dict[str, Any]:
        """Return a provider's facts with this server in the place of every host that tokens are asked of."""
        changed = {
            key: self.standing_in_for(value) if isinstance(value, dict) else self._moved(value)
            for key, value in table.items()
            if key in {"code", "upgrade", "refresh", "token_endpoint", "endpoint"}
        }
        return {**table, **changed}

    def _moved(self, value: object) -> object:
        moved = f"http://127.0.0.1:{self._port}/"
        return value.replace("https://", moved, 1) if isinstance(value, str) else value

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _version = lines[0].split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:-2])}
        body = (await reader.readexactly(int(headers.get("content-length", "0")))).decode("ascii")
        told = {name: value for name, value in headers.items() if name not in _OF_THE_CONNECTION}
        self.received.append((method, f"https:/{target}", told, body))
        if self._bodies:
            content = self._bodies.pop(0).encode()
            head = (
                f"HTTP/1.1 200 OK\r\nDate: {self._date}\r\nConnection: close\r\nContent-Length: {len(content)}\r\n\r\n"
            )
            writer.write(head.encode("ascii") + content)
            await writer.drain()
        writer.close()
