"""One connection of HTTP/1.1: a request at a time is written, and its answer waited for, within its time limits."""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterator
from typing import Final, cast

import httpx

from worker.oauth.answer_reader import AnswerReader

#: A deadline that fires later than this, seconds, found the process stopped or the loop blocked.
_LATE: Final = 0.2
#: How long an answer that may lie in the socket is then read for, seconds: what is there is read at once.
_LATE_READ: Final = 1.0
#: Unread bytes of a body at which the server is kept waiting.
HIGH_WATER: Final = 512 * 1024


class HttpConnection(asyncio.Protocol):
    """A connection to a server; `HttpPool` makes it and keeps it between two requests.

    Attributes:
        answer: what has come of the answer to the request that was sent last.
        idle_since: when the last answer was left, by the loop's clock, in seconds.

    """

    __slots__ = (
        "_alarm",
        "_deadline",
        "_drained",
        "_is_asked",
        "_is_closed",
        "_is_late",
        "_is_made",
        "_is_paused",
        "_loop",
        "_socket",
        "_transport",
        "_waiter",
        "answer",
        "idle_since",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.answer = AnswerReader()
        self.idle_since = 0.0
        self._loop = loop
        self._waiter: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._deadline: float | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._is_asked = False
        self._is_paused = False
        self._is_closed = False
        self._is_late = False
        self._is_made = False

    def send(self, request: bytes, deadline: float | None = None, *, wants_body: bool = True) -> None:
        """Write a request, whole; `head` waits for what comes of it.

        Args:
            request: its head and body.
            deadline: when the last byte of the answer must be there, by the loop's clock, in seconds.
            wants_body: False for HEAD.

        """
        self.answer.begin(wants_body=wants_body)
        self._is_asked = True
        self._is_late = False
        self._deadline = deadline
        if deadline is not None and (self._alarm is None or self._alarm.when() > deadline):
            self._set_alarm(deadline)
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
        if self.answer.error is not None:
            raise self.answer.error

    async def head(self, limit: float | None) -> None:
        """Return once the answer's status and headers are there.

        Args:
            limit: seconds of silence.

        Raises:
            httpx.ReadTimeout: when nothing came for so long.
            httpx.TransportError: when the connection broke, or what came is not HTTP.

        """
        while not self.answer.has_head:
            if self.answer.error is not None:
                raise self.answer.error
            await self._more(limit)

    async def body(self, limit: float | None) -> AsyncIterator[bytes]:
        """Give out the body as it comes; arguments and exceptions are those of `head`."""
        answer = self.answer
        while True:
            if answer.unread:
                yield self.take()
            elif answer.is_whole:
                return
            elif answer.error is not None:
                raise answer.error
            else:
                await self._more(limit)

    def take(self) -> bytes:
        """Return what has come of the body and was not taken yet."""
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()
        return self.answer.take()

    def end(self) -> bool:
        """Leave the answer; returns whether the connection can carry another request, and closes it where not."""
        self._is_asked = False
        self._deadline = None
        if self.answer.may_go_on() and self.is_open() and not self._is_paused:
            return True
        self.close()
        return False

    def is_open(self) -> bool:
        """Tell whether another request may be written."""
        return not self._is_closed and not self._transport.is_closing()

    def is_quiet(self) -> bool:
        """Tell whether nothing has come that the loop has not read yet, such as the server's good-bye."""
        return not self._socket.poll(0)

    def close(self) -> None:
        """Close at once: nothing that is still on its way is wanted."""
        self._is_closed = True
        if self._is_asked and not self.answer.is_whole:
            self.answer.fail(httpx.CloseError("the connection was closed here"))
        self._set_alarm(None)
        self._transport.abort()

    def abort(self) -> None:
        """Give up a connection that is still being made."""
        if self._is_made:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the connection."""
        self._transport = cast("asyncio.Transport", transport)
        self._socket = select.poll()
        self._socket.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        self._is_made = True

    def data_received(self, data: bytes) -> None:
        """Read on."""
        if not self._is_asked:  # an answer to nothing, often a time-out before a close: nothing is to be sent after it
            self.close()
            return
        self.answer.feed(data)
        if self.answer.unread > HIGH_WATER and not self._is_paused:
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
        self._is_closed = True

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end, which may be the answer's too."""
        self._is_closed = True
        if self._is_asked:
            self.answer.end(exc)
        self._set_alarm(None)
        self.resume_writing()
        self._wake()

    def _set_alarm(self, when: float | None) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_at(when, self._expire) if when is not None else None

    def _expire(self) -> None:
        """End an answer that is not there in time.

        One alarm serves many requests: it is set for the deadline of the first, and when it goes off, for that of the
        one that is under way by then. To set and cancel one for each costs more than writing the request.
        """
        self._alarm = None
        now, deadline = self._loop.time(), self._deadline
        if deadline is None:
            return
        if now < deadline:
            self._set_alarm(deadline)
            return
        if now > deadline + _LATE and not self._is_late:
            # If this process was stopped past the deadline, the answer may lie in the socket, and is worth more than a
            # deadline that nobody kept. Once: the lease goes on.
            self._is_late = True
            self._deadline = now + _LATE_READ
            self._set_alarm(self._deadline)
            return
        if not self.answer.is_whole:
            self.answer.fail(httpx.ReadTimeout("the answer was not there in time"))
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

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
