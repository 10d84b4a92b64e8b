"""`GET /userinfo`: whose access token this is, for whoever wants to know whether a token still works (RFC 6750)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from worker.domain.secret import Secret
from worker.sandbox.access_token_validity import is_valid
from worker.sandbox.authorization_server import AuthorizationServer

_BEARER: Final = "bearer "


def bearer_token(request: Request) -> Secret | None:
    """Return the token of an `Authorization: Bearer` header, or None."""
    header = request.headers.get("authorization", "")
    return Secret(header[len(_BEARER) :]) if header.lower().startswith(_BEARER) else None


class Userinfo:
    """Answers 200 with the account for a valid access token, 401 for any other."""

    def __init__(self, server: AuthorizationServer) -> None:
        self._server = server

    async def answer(self, request: Request) -> Response:
        """Handle one request."""
        token = bearer_token(request)
        if token is None:
            return _unauthorized("Bearer")
        claims = self._server.access_tokens.read(token)
        if claims is None or not is_valid(self._server, claims):
            return _unauthorized('Bearer error="invalid_token"')  # RFC 6750 section 3.1
        return JSONResponse(
            {
                "account": claims.account,
                "client_id": claims.client_id,
                "family_id": claims.family_id,
                "scope": claims.scope,
            },
        )


def _unauthorized(challenge: str) -> Response:
    return Response(status_code=HTTPStatus.UNAUTHORIZED, headers={"www-authenticate": challenge})
