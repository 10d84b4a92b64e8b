"""One request with secrets in it, and its answer: bounded in time and size, never repeated, never redirected."""

from __future__ import annotations

import asyncio
from typing import Final

import httpx

from worker.oauth.http_client import ROUTE
from worker.oauth.token_answer import HttpAnswer
from worker.oauth.token_request import TokenRequest

#: A token answer is a few kilobytes; more than this is not one, and is not read further.
BODY_LIMIT: Final = 256 * 1024
#: Share of the whole time limit that a connection may take to be made: a host that is not there is known sooner.
_CONNECT_SHARE: Final = 0.5

#: A deadline that fires later than this, seconds, found the process stopped or the loop blocked.
_LATE: Final = 0.2
#: How long an answer that may lie in the socket is then read for, seconds: what is there is read at once.
_LATE_READ: Final = 1.0


async def exchange(http: httpx.AsyncClient, request: TokenRequest, limit: float) -> HttpAnswer:
    """Send a request and read its answer, to the end or to the cap.

    Args:
        http: made by `create_http_client`.
        request: what to send.
        limit: seconds for all of it, from the look-up of the name to the last byte.

    Raises:
        httpx.HTTPError, aiohttp.ClientError, OSError: when no answer was read; whether the request left, the
            `departure` of the caller's context tells.

    """
    under_way = asyncio.create_task(_exchange(http, request, limit))
    try:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limit
        await asyncio.wait({under_way}, timeout=limit)
        if not under_way.done() and loop.time() > deadline + _LATE:
            # This process was stopped past the deadline. The answer may lie in the socket, and is worth more than a
            # deadline that nobody kept.
            await asyncio.wait({under_way}, timeout=_LATE_READ)
        if not under_way.done():
            raise TimeoutError
        return under_way.result()
    finally:
        if not under_way.done():
            under_way.cancel()
            await asyncio.gather(under_way, return_exceptions=True)


async def _exchange(http: httpx.AsyncClient, request: TokenRequest, limit: float) -> HttpAnswer:
    timeout = httpx.Timeout(limit + _LATE_READ, connect=limit * _CONNECT_SHARE)
    async with http.stream(
        request.method,
        request.url,
        headers=request.headers,
        content=request.content or None,
        timeout=timeout,
        extensions={ROUTE: request.route},
    ) as response:
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > BODY_LIMIT:
                break
        return HttpAnswer(
            status=response.status_code,
            headers={name.lower(): value for name, value in response.headers.items()},
            body=bytes(body[:BODY_LIMIT]),
            cut=len(body) > BODY_LIMIT,
        )
