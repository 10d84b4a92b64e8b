"""The HTTP edge: reads a bounded request body, waits for a latency, sends a reply or drops the connection."""

from __future__ import annotations

import asyncio
from typing import Any, Final, assert_never

from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from worker.sandbox.replies import Answered, CutShort, Dropped, Reply

MAX_BODY_BYTES: Final = 64 * 1024  # a token request has some hundred bytes; seeding orders have a few kilobytes
_TRANSPORT: Final = "sandbox_transport"


class DroppableConnection(H11Protocol):
    """uvicorn's HTTP/1.1 protocol, which also shows its transport to the application: closing it drops the reply."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.access_log = False  # set here: uvicorn's own switch empties a logger that other servers share

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Remember the transport for the requests of this connection."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, _TRANSPORT: transport}


class BodyTooLargeError(Exception):
    """A request's body is beyond what any honest request needs."""


async def read_body(receive: Receive) -> bytes:
    """Return the request's body.

    Raises:
        BodyTooLargeError: it has more than MAX_BODY_BYTES.
    """
    chunks = bytearray()
    while True:
        message = await receive()
        chunks += message.get("body", b"")
        if len(chunks) > MAX_BODY_BYTES:
            message_text = f"the request body has more than {MAX_BODY_BYTES} bytes"
            raise BodyTooLargeError(message_text)
        if not message.get("more_body", False):
            return bytes(chunks)


def is_open(scope: Scope) -> bool:
    """Return whether the client still holds its end of the connection, as far as the kernel has told."""
    return not _transport(scope).is_closing()


async def client_waits(receive: Receive, seconds: float) -> None:
    """Return after `seconds`, or at once when the client hangs up; the body must have been read."""
    try:
        async with asyncio.timeout(seconds):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        pass


async def send_reply(reply: Reply, scope: Scope, receive: Receive, send: Send) -> None:
    """Send all of a reply, its beginning, or nothing, and close the connection in the two latter cases."""
    match reply:
        case Answered():
            await _send_start(reply, send)
            await send({"type": "http.response.body", "body": reply.body})
        case CutShort(whole=whole):
            await _send_start(whole, send)
            half = whole.body[: len(whole.body) // 2]
            await send({"type": "http.response.body", "body": half, "more_body": True})
            await _drop(scope, receive)
        case Dropped():
            await _drop(scope, receive)
        case _:
            assert_never(reply)


async def _send_start(answer: Answered, send: Send) -> None:
    headers = [(name.encode(), value.encode("latin-1")) for name, value in answer.headers]
    headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})


async def _drop(scope: Scope, receive: Receive) -> None:
    _transport(scope).close()
    # uvicorn takes a missing answer for a mistake, unless it already knows that the connection is gone.
    while (await receive())["type"] != "http.disconnect":
        pass


def _transport(scope: Scope) -> asyncio.Transport:
    transport: asyncio.Transport = scope["state"][_TRANSPORT]
    return transport
