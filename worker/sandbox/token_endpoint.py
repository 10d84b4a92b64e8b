"""The token endpoint (RFC 6749 section 3.2) of one profile, as a plain ASGI application: it is the busy one."""

from __future__ import annotations

from functools import partial

from starlette.types import Receive, Scope, Send

from worker.domain.secret import Secret
from worker.sandbox.answers_in_flight import ClientIsThere
from worker.sandbox.authorization_server import AuthorizationServer
from worker.sandbox.client_request import ClientRequest, counted_refusal, read_client_request
from worker.sandbox.code_exchange import handle_code
from worker.sandbox.connection import client_waits, is_open, send_reply
from worker.sandbox.profiles import Profile
from worker.sandbox.refreshing import Handled, RefreshRequest, handle_refresh, settle
from worker.sandbox.refusal import ErrorCode, Refusal, invalid_request
from worker.sandbox.replies import refusal_reply


class TokenEndpoint:
    """Answers `grant_type=authorization_code` and `grant_type=refresh_token`."""

    def __init__(self, server: AuthorizationServer, profile: Profile) -> None:
        self._server = server
        self._profile = profile

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request: the work first, then the latency or stall, then the reply."""
        client_is_there = partial(is_open, scope)
        request = await read_client_request(self._server, self._profile, scope, receive)
        handled = _answer_at_once(request) if isinstance(request, Refusal) else self._handle(request, client_is_there)
        if handled.delay > 0:
            await client_waits(receive, handled.delay)
        settle(self._server, handled, client_is_there=client_is_there)
        await send_reply(handled.reply, scope, receive, send)

    def _handle(self, request: ClientRequest, client_is_there: ClientIsThere) -> Handled:
        match request.parameters.get("grant_type"):
            case "refresh_token":
                if "refresh_token" not in request.parameters:
                    return self._refused(request, invalid_request("refresh_token is missing"))
                refresh = RefreshRequest(
                    client=request.client,
                    refresh_token=Secret(request.parameters["refresh_token"]),
                    scope=request.parameters.get("scope"),
                )
                return handle_refresh(self._server, refresh, client_is_there=client_is_there)
            case "authorization_code":
                return handle_code(self._server, request.client, request.parameters)
            case None:
                return self._refused(request, invalid_request("grant_type is missing"))
            case _:
                unsupported = Refusal(
                    error=ErrorCode.UNSUPPORTED_GRANT_TYPE,
                    description="grant_type must be authorization_code or refresh_token",
                )
                return self._refused(request, unsupported)

    def _refused(self, request: ClientRequest, refusal: Refusal) -> Handled:
        return _answer_at_once(counted_refusal(self._server, request.client.client_id, refusal))


def _answer_at_once(refusal: Refusal) -> Handled:
    return Handled(reply=refusal_reply(refusal), delay=0.0)
