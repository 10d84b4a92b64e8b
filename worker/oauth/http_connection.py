"""One HTTP/1.1 connection (RFC 9112): one request at a time is written, and its answer read as it comes.

llhttp, by httptools, reads the answers. It is as lenient here as it is in aiohttp: a bare line feed, a stray space
after a chunk's size or an odd letter in a header costs no token that arrived.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterator
from typing import Final, cast

import httptools
import httpx

#: Bytes of an answer's status line and headers at most: far beyond what servers and their proxies send, for a token in
#: an answer that is refused for its headers is lost; and still no more than a few answers' worth of memory.
LONGEST_HEAD: Final = 256 * 1024
#: Longest header line of an answer.
LONGEST_HEADER: Final = 64 * 1024
#: A deadline that fires later than this, seconds, found the process stopped or the loop blocked.
_LATE: Final = 0.2
#: How long an answer that may lie in the socket is then read for, seconds: what is there is read at once.
_LATE_READ: Final = 1.0
#: Unread bytes of a body at which the server is kept waiting.
HIGH_WATER: Final = 512 * 1024
_INTERIM: Final = 100  # RFC 9110 section 15.2: answers before the answer
_SWITCHING: Final = 101  # never asked for
_SUCCESS: Final = 200
_WITHOUT_BODY: Final = frozenset({204, 304})  # RFC 9112 section 6.3

Headers = list[tuple[bytes, bytes]]


class HttpConnection(asyncio.Protocol):
    """A connection to a server; `HttpPool` makes it and keeps it between two requests."""

    __slots__ = (
        "_body_ended",
        "_chunks",
        "_deadline",
        "_drained",
        "_error",
        "_head_ended",
        "_head_size",
        "_is_asked",
        "_is_paused",
        "_keeps",
        "_loop",
        "_parser",
        "_transport",
        "_unread",
        "_until_close",
        "_waiter",
        "_wants_body",
        "headers",
        "idle_since",
        "is_closed",
        "status",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.status = 0
        self.headers: Headers = []
        self.is_closed = False
        self.idle_since = 0.0  #: the loop's clock, in seconds
        self._loop = loop
        self._parser = _parser(self)
        self._waiter: asyncio.Future[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._drained: asyncio.Future[None] | None = None
        self._error: httpx.TransportError | None = None
        self._is_asked = False
        self._chunks: list[bytes] = []
        self._unread = 0
        self._is_paused = False
        self._wants_body = True
        self._head_size = 0
        self._head_ended = False
        self._body_ended = False
        self._until_close = False  #: after this answer the connection carries no other
        self._keeps = False  #: llhttp's opinion of that

    def send(self, request: bytes, deadline: float | None = None, *, wants_body: bool = True) -> None:
        """Write a request, whole; `head` waits for what comes of it.

        Args:
            request: its head and body.
            deadline: when the last byte of the answer must be there, by the loop's clock, in seconds.
            wants_body: False for HEAD, whose answer tells a length that no body follows.

        """
        self._begin()
        self._wants_body = wants_body
        self._is_asked = True
        if deadline is not None:
            self._deadline = self._loop.call_at(deadline, self._expire, deadline)
        self._transport.write(request)

    async def sent(self, limit: float | None) -> None:
        """Return once the system has taken the request.

        Args:
            limit: seconds.

        Raises:
            httpx.WriteTimeout: when it has not by then.
            httpx.TransportError: when the connection broke.

        """
        if self._drained is None:
            return
        try:
            async with asyncio.timeout(limit):
                await self._drained
        except TimeoutError as error:
            raise httpx.WriteTimeout("the request could not be written in time") from error
        finally:
            self._drained = None
        if self._error is not None:
            raise self._error

    async def head(self, limit: float | None) -> None:
        """Return once `status` and `headers` are there.

        Args:
            limit: seconds of silence.

        Raises:
            httpx.ReadTimeout: when nothing came for so long.
            httpx.TransportError: when the connection broke, or what came is not HTTP.

        """
        while not self._head_ended:
            if self._error is not None:
                raise self._error
            await self._more(limit)

    async def body(self, limit: float | None) -> AsyncIterator[bytes]:
        """Give out the body as it comes; arguments and exceptions are those of `head`."""
        while True:
            if self._chunks:
                yield self.take()
            elif self._body_ended:
                return
            elif self._error is not None:
                raise self._error
            else:
                await self._more(limit)

    def take(self) -> bytes:
        """Return what has arrived of the body and was not taken yet."""
        chunks, self._chunks, self._unread = self._chunks, [], 0
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def end(self) -> bool:
        """Leave the answer; returns whether the connection can carry another request, and closes it where not."""
        is_whole = self._body_ended and self._error is None
        self._is_asked = False
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if is_whole and self._keeps and not self._until_close and self.is_open():
            return True
        self.close()
        return False

    def is_open(self) -> bool:
        """Tell whether another request may be written."""
        return not self.is_closed and not self._transport.is_closing()

    def is_quiet(self) -> bool:
        """Tell whether nothing has come that the loop has not read yet, such as the server's good-bye."""
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Close at once: nothing that is still on its way is wanted."""
        self.is_closed = True
        if self._is_asked and not self._body_ended:
            self._fail(httpx.CloseError("the connection was closed here"))
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the connection."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        if not self._is_asked:  # an answer to nothing, often a time-out before a close: nothing is to be sent after it
            self.close()
            return
        if self._body_ended or self._error is not None:
            self._until_close = True  # more than the answer: what follows belongs to nobody
            return
        self._head_size += 0 if self._head_ended else len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._until_close = True
            if not self._body_ended:
                self._fail(httpx.RemoteProtocolError("the answer is not HTTP"), error)
        if self._head_size > LONGEST_HEAD and not self._head_ended:
            self._fail(httpx.RemoteProtocolError("the answer's headers are too long"))
        if self._unread > HIGH_WATER and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def pause_writing(self) -> None:
        """Note that the system takes no more for now."""
        if self._drained is None:
            self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        """Note that it does again."""
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def eof_received(self) -> None:
        """Note that the server sends no more; the transport closes by itself."""
        self.is_closed = True

    def connection_lost(self, exc: Exception | None) -> None:
        """End the answer: by RFC 9112 section 6.3 this may be how its end is told."""
        self.is_closed = True
        if self._is_asked and not self._body_ended:
            if exc is None and self._head_ended and self._until_close and self._error is None:
                self._body_ended = True
            else:
                self._fail(httpx.RemoteProtocolError("the connection ended before the answer did"), exc)
        self.resume_writing()
        self._wake()

    # What llhttp tells; of the reason phrase it does not, which a client should ignore (RFC 9112 section 4).

    def on_message_begin(self) -> None:
        """Let no second answer follow in what the first one came with: it would be taken for a part of it."""
        if self._body_ended:
            raise ValueError("there is more than was asked for")

    def on_header(self, name: bytes, value: bytes | None) -> None:
        """Note a header. Trailers come here too, and are of no use."""
        if self._head_ended:
            return
        value = value or b""
        if len(name) + len(value) > LONGEST_HEADER:
            raise ValueError("a header is too long")
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Note that the head is whole, unless it is that of an interim answer."""
        status = self._parser.get_status_code()
        if status == _SWITCHING or status < _INTERIM:
            raise ValueError("no such status was to be expected")
        if status < _SUCCESS:
            self.headers = []
            return
        self.status = status
        self._until_close = not self._wants_body or _ends_with_the_connection(status, self.headers)
        self._head_ended = True
        self._body_ended = not self._wants_body

    def on_body(self, body: bytes) -> None:
        """Hold a part of the body until it is taken."""
        if self._body_ended:
            return
        self._chunks.append(body)
        self._unread += len(body)

    def on_message_complete(self) -> None:
        """Note the end, unless it is that of an interim answer."""
        self._body_ended = self._head_ended
        self._keeps = self._parser.should_keep_alive()  # llhttp forgets it with the next byte

    def _begin(self) -> None:
        self.status, self.headers = 0, []
        self._head_ended = self._body_ended = self._until_close = self._keeps = False
        self._head_size = 0

    def _expire(self, deadline: float) -> None:
        now = self._loop.time()
        if now > deadline + _LATE:
            # If this process was stopped past the deadline, the answer may lie in the socket, and is worth more than a
            # deadline that nobody kept.
            late = now + _LATE_READ
            self._deadline = self._loop.call_at(late, self._expire, late)
            return
        if not self._body_ended:
            self._fail(httpx.ReadTimeout("the answer was not there in time"))
            self.resume_writing()
            self._wake()

    async def _more(self, limit: float | None) -> None:
        waiter = self._waiter = self._loop.create_future()
        if limit is None:
            await waiter
            return
        try:
            async with asyncio.timeout(limit):
                await waiter
        except TimeoutError as error:
            raise httpx.ReadTimeout("the server was silent for too long") from error

    def _fail(self, error: httpx.TransportError, cause: Exception | None = None) -> None:
        if self._error is None:
            self._error = error
            error.__cause__ = cause

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


def _parser(told: HttpConnection) -> httptools.HttpResponseParser:
    parser = httptools.HttpResponseParser(told)
    parser.set_dangerous_leniencies(
        lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
    )
    return parser


def _ends_with_the_connection(status: int, headers: Headers) -> bool:
    """Tell whether only the connection's end ends the body (RFC 9112 section 6.3)."""
    if status in _WITHOUT_BODY:
        return False
    named = {name.lower(): value for name, value in headers}
    coding = named.get(b"transfer-encoding")
    if coding is not None:
        return not coding.strip().lower().endswith(b"chunked")
    return b"content-length" not in named
