"""A port of their own for probes and metrics: metrics name clients, and whoever reaches a page need not read them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_METRICS: Final = "/metrics"
#: What is served on the port of their own, and nothing else.
_THERE: Final = frozenset({"/healthz", "/readyz", _METRICS})


class OwnPort:
    """Serves metrics on one of two ports, pages and the API on the other, and probes on both.

    Args:
        app: what serves all of it.
        port: where probes and metrics have a listener of their own. It is known by the socket that a request came
            through, and not by the request's Host.

    """

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        self._port = port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on if what it asks for is served on its port."""
        if scope["type"] == "http" and not self._serves(scope):
            refused = JSONResponse({"status": "not found"}, HTTPStatus.NOT_FOUND)
            await refused(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _serves(self, scope: Scope) -> bool:
        _host, port = scope["server"]
        path: str = scope["path"]
        # By its beginning: routes match addresses that end otherwise, such as in a line break.
        return path in _THERE if port == self._port else not path.startswith(_METRICS)
