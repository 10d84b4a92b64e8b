"""One line for each request: method, route, status and time. The address itself is not told, for it may hold secrets.

The query of a callback is a code and a state, and links in mails are secrets: the route's own pattern is shown.
"""

from __future__ import annotations

import time
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.logging import get_logger

#: What is asked every few seconds by machines, and what pages bring along.
_QUIET: Final = ("/healthz", "/readyz", "/metrics", "/static/")
_NO_ANSWER: Final = 500

log = get_logger("evergrant.web")


class AccessLog:
    """Logs each request when its answer is complete: at info; probes, scrapes and static files at debug."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and log what became of it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = _NO_ANSWER

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])  # an HTTPStatus would be written by its name
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path", None)
            write = log.debug if scope["path"].startswith(_QUIET) else log.info
            write(
                "request_answered",
                method=scope["method"],
                route=route or "none",
                status=status,
                took_ms=round((time.perf_counter() - began) * 1000, 1),
            )
