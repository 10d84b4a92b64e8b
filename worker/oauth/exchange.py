"""One request with secrets in it, and its answer: bounded in time and size, never repeated, never redirected."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import httpx

from worker.oauth.http_client import DEADLINE, ENDPOINT, ROUTE, UNREAD
from worker.oauth.token_answer import HttpAnswer
from worker.oauth.token_request import TokenRequest

#: A token answer is a few kilobytes; more than this is not one, and is not read further.
BODY_LIMIT: Final = 256 * 1024
#: Share of the whole time limit that a connection may take to be made: a host that is not there is known sooner.
_CONNECT_SHARE: Final = 0.5

#: zlib finds out by itself whether it is gzip or zlib (`wbits` of zlib.decompressobj).
_GZIP_OR_ZLIB: Final = zlib.MAX_WBITS | 32


class UnansweredError(Exception):
    """No answer was read to its end; `__cause__` is why. Whether the request left, the caller's `departure` tells.

    Attributes:
        read: what had come of the answer until then, where its head had come.

    """

    def __init__(self, read: HttpAnswer | None) -> None:
        super().__init__("no answer was read to its end")
        self.read = read


class _Arriving:
    """An answer on its way."""

    def __init__(self) -> None:
        self.response: httpx.Response | None = None
        self.body = bytearray()

    def so_far(self) -> HttpAnswer | None:
        """Return what has arrived of an answer whose connection broke, or None where no head has."""
        return None if self.response is None else self.read(self.response, broken=True)

    def read(self, response: httpx.Response, *, broken: bool) -> HttpAnswer:
        """Return the answer."""
        headers: dict[str, str] = {}
        for raw_name, raw_value in response.headers.raw:
            name, value = _header_name(raw_name), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value  # RFC 9110 section 5.3
        body = _decoded(bytes(self.body), headers.get("content-encoding", ""))
        return HttpAnswer(
            status=response.status_code,
            headers=headers,
            body=body[:BODY_LIMIT],
            cut=max(len(body), len(self.body)) > BODY_LIMIT,
            broken=broken,
        )


async def exchange(http: httpx.AsyncClient, request: TokenRequest, limit: float) -> HttpAnswer:
    """Send a request and read its answer, to the end or to the cap.

    Args:
        http: made by `create_http_client`.
        request: what to send.
        limit: seconds for all of it, from the look-up of the name to the last byte.

    Raises:
        UnansweredError: when no answer was read to its end, whatever the reason.

    """
    arriving = _Arriving()
    deadline = asyncio.get_running_loop().time() + limit
    try:
        return await _exchange(http, request, limit, deadline, arriving)
    except Exception as error:
        raise UnansweredError(arriving.so_far()) from error


async def _exchange(
    http: httpx.AsyncClient, request: TokenRequest, limit: float, deadline: float, arriving: _Arriving
) -> HttpAnswer:
    headers = request.headers
    response = await http.send(
        httpx.Request(
            request.method,
            _parsed(request.url) if request.url == request.endpoint else request.url,
            headers=headers if isinstance(headers, httpx.Headers) else sent_headers(http, headers),
            stream=httpx.ByteStream(request.content),  # given as content, httpx would look at each header for its own
            # One deadline ends whatever takes too long once the request is written.
            extensions={
                ROUTE: request.route,
                DEADLINE: deadline,
                ENDPOINT: request.endpoint,
                "timeout": {"connect": limit * _CONNECT_SHARE},
            },
        ),
        stream=True,
    )
    arriving.response, stream = response, response.stream
    if isinstance(stream, httpx.ByteStream):  # all of it has come
        arriving.body += b"".join(stream)
        return arriving.read(response, broken=False)
    try:
        async for chunk in stream:  # type: ignore[union-attr] # as it came, and not by httpx's own layers
            arriving.body += chunk
            if len(arriving.body) > BODY_LIMIT:
                break
        return arriving.read(response, broken=False)
    except Exception:
        arriving.body += response.extensions[UNREAD]()
        raise
    finally:
        await stream.aclose()  # type: ignore[union-attr]


def sent_headers(http: httpx.AsyncClient, own: Mapping[str, str]) -> httpx.Headers:
    """Return the headers of a request: its own, and of the client's those that it has none of."""
    names = {name.lower().encode("ascii") for name in own}
    return httpx.Headers(
        [
            *((name, value) for name, value in http.headers.raw if name.lower() not in names),
            *((name.encode("ascii"), value.encode("ascii")) for name, value in own.items()),
        ]
    )


@lru_cache(maxsize=256)  # addresses as configured, which hold no secret
def _parsed(endpoint: str) -> httpx.URL:
    return httpx.URL(endpoint)


@lru_cache(maxsize=1024)  # providers name their headers as they did before
def _header_name(raw: bytes) -> str:
    return raw.decode("latin-1").lower()


def _decoded(body: bytes, coding: str) -> bytes:
    """Undo a compression that nobody asked for; what is not what it is said to be is left as it is."""
    if coding.strip().lower() not in {"gzip", "x-gzip", "deflate"}:
        return body
    for wbits in (_GZIP_OR_ZLIB, -zlib.MAX_WBITS):  # the latter for servers that leave out zlib's frame
        try:
            return zlib.decompressobj(wbits).decompress(body, BODY_LIMIT + 1)
        except zlib.error:
            continue
    return body
