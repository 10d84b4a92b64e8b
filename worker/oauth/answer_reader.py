"""Reading answers of HTTP/1.1 (RFC 9112) as their bytes come, without any connection: one answer after another.

llhttp, by httptools, does the parsing. It is as lenient here as it is in aiohttp: a bare line feed, a stray space after
a chunk's size or an odd letter in a header's value costs no token that arrived. Of a head that it refuses for all that,
status and headers are read line by line, and what follows is given out as the begin of a body that broke.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import httptools
import httpx

#: Bytes of an answer's status line and headers at most: far beyond what servers and their proxies send, for a token in
#: an answer that is refused for its headers is lost; and still no more than a few answers' worth of memory.
LONGEST_HEAD: Final = 256 * 1024
#: Longest header line of an answer.
LONGEST_HEADER: Final = 64 * 1024
_INTERIM: Final = 100  # RFC 9110 section 15.2: answers before the answer
_SWITCHING: Final = 101  # never asked for
_SUCCESS: Final = 200
_WITHOUT_BODY: Final = frozenset({204, 304})  # RFC 9112 section 6.3

_CODING: Final = b"transfer-encoding"
_LENGTH: Final = b"content-length"
_STATUS_LINE: Final = re.compile(rb"HTTP/[0-9.]{1,5} ([2-5][0-9]{2})[ \r\n]")
_END_OF_HEAD: Final = re.compile(rb"\r?\n\r?\n")

Headers = list[tuple[bytes, bytes]]


class AnswerReader:
    """Reads the answers that come over one connection.

    Attributes:
        status: of the answer, once its head is whole.
        headers: likewise.
        has_head: its head is whole.
        is_whole: and so is its body.
        error: why it will never be.
        is_last: what has come ends the connection: no other answer can follow.
        unread: bytes of the body that have come and were not taken.

    """

    __slots__ = (
        "_chunks",
        "_head_size",
        "_is_ambiguous",
        "_keeps",
        "_parser",
        "_raw",
        "_wants_body",
        "error",
        "has_head",
        "headers",
        "is_last",
        "is_whole",
        "status",
        "unread",
    )

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_chunked_length=True,  # RFC 9112 section 6.3: chunks count, whatever length is told beside them
            lenient_optional_cr_before_lf=True,
            lenient_spaces_after_chunk_size=True,
        )
        self.error: httpx.TransportError | None = None
        self.begin()

    def begin(self, *, wants_body: bool = True) -> None:
        """Await an answer.

        Args:
            wants_body: False for the answer to HEAD, which tells a length that no body follows.

        """
        self.status = 0
        self.headers: Headers = []
        self.has_head = self.is_whole = self.is_last = self._keeps = self._is_ambiguous = False
        self.unread = self._head_size = 0
        self._chunks: list[bytes] = []
        self._raw: list[bytes] = []  # of a head that is not whole yet
        self._wants_body = wants_body

    def feed(self, data: bytes) -> None:
        """Read on; what is wrong with the bytes is told by `error`."""
        if self.is_whole or self.error is not None:
            self.is_last = True  # more than the answer: what follows belongs to nobody
            return
        if not self.has_head:
            self._head_size += len(data)
            self._raw.append(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.is_last = True
            if not self.is_whole:
                if not isinstance(error, httptools.HttpParserCallbackError):  # what is refused here stays refused
                    self._salvage()
                self.fail(httpx.RemoteProtocolError("the answer is not HTTP"), error)
        if self._head_size > LONGEST_HEAD and not self.has_head:
            self.fail(httpx.RemoteProtocolError("the answer's headers are too long"))

    def end(self, error: Exception | None) -> None:
        """Take the connection's end for the answer's, where that is how it is told (RFC 9112 section 6.3).

        Args:
            error: why the connection ended; None where it was closed in order.

        """
        if self.is_whole:
            return
        if error is None and self.has_head and self.is_last and self.error is None:
            self.is_whole = True
        else:
            self.fail(httpx.RemoteProtocolError("the connection ended before the answer did"), error)

    def fail(self, error: httpx.TransportError, cause: Exception | None = None) -> None:
        """Note why the answer will never be whole; the first reason counts."""
        if self.error is None:
            self.error = error
            error.__cause__ = cause

    def take(self) -> bytes:
        """Return what has come of the body and was not taken yet."""
        chunks, self._chunks, self.unread = self._chunks, [], 0
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def may_go_on(self) -> bool:
        """Tell whether another answer may follow this one."""
        return self.is_whole and self.error is None and self._keeps and not self.is_last

    def _salvage(self) -> None:
        """Read what llhttp refuses as far as it can be read: tokens in it have been given out, and are nowhere else."""
        if self.has_head:
            return
        raw = b"".join(self._raw)
        status, end = _STATUS_LINE.match(raw), _END_OF_HEAD.search(raw)
        if status is None or end is None:
            return
        self.status = int(status[1])
        lines = (line.partition(b":") for line in raw[status.end() : end.start()].split(b"\n"))
        self.headers = [
            (name.strip(), value.strip()) for name, colon, value in lines if colon and name.strip().isascii()
        ]
        self._chunks = [raw[end.end() :]]
        self.unread = len(self._chunks[0])
        self.has_head = True

    # What llhttp tells; of the reason phrase it does not, which a client should ignore (RFC 9112 section 4).

    def on_message_begin(self) -> None:
        """Let no second answer follow in what the first one came with: it would be taken for a part of it."""
        if self.is_whole:
            raise ValueError("there is more than was asked for")

    def on_header(self, name: bytes, value: bytes | None) -> None:
        """Note a header. Trailers come here too, and are of no use."""
        if self.has_head:
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
        named = {name.lower(): value for name, value in self.headers}
        self.is_last = not self._wants_body or _ends_with_the_connection(status, named)
        # Nobody knows where such an answer ends for whoever stands in between (RFC 9112 section 6.3).
        self._is_ambiguous = _CODING in named and _LENGTH in named
        self.has_head = True
        self.is_whole = not self._wants_body

    def on_body(self, body: bytes) -> None:
        """Hold a part of the body until it is taken."""
        if self.is_whole:
            return
        self._chunks.append(body)
        self.unread += len(body)

    def on_message_complete(self) -> None:
        """Note the end, unless it is that of an interim answer."""
        self.is_whole = self.has_head
        # Asked now, for llhttp forgets it with the next byte.
        self._keeps = self._parser.should_keep_alive() and not self._is_ambiguous


def _ends_with_the_connection(status: int, named: Mapping[bytes, bytes]) -> bool:
    """Tell whether only the connection's end ends the body (RFC 9112 section 6.3)."""
    if status in _WITHOUT_BODY:
        return False
    coding = named.get(_CODING)
    if coding is not None:
        return not coding.strip().lower().endswith(b"chunked")
    return _LENGTH not in named
