"""Keeps what the web application answers, whoever asks: programs, browsers, fuzzers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.secrecy.told import tell

#: Where the API hands out what it is there to hand out: access tokens.
_HANDS_OUT: Final = "access-token"
#: By the beginning of a content type, what an answer is.
_PLACES: Final = {
    "application/problem+json": "problems",
    "application/json": "answers",
    "application/openmetrics-text": "metrics",
    "text/plain": "metrics",
    "text/html": "pages",
    "text/csv": "answers",
}


def kept_answers(app: Callable[[Scope, Receive, Send], object]) -> ASGIApp:
    """Return an application that does the same, and keeps what it answers."""

    async def answering(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)  # type: ignore[misc]
            return
        place, body = None, b""

        async def keeping(message: Message) -> None:
            nonlocal place, body
            if message["type"] == "http.response.start":
                content_type = dict(message["headers"]).get(b"content-type", b"").decode("latin-1")
                place = next((its for begins, its in _PLACES.items() if content_type.startswith(begins)), None)
            elif place is not None:
                body += message.get("body", b"")
            await send(message)

        await app(scope, receive, keeping)  # type: ignore[misc]
        if place == "problems" or (place is not None and not scope["path"].endswith(_HANDS_OUT)):
            tell(place, body)

    return answering
