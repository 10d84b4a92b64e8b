"""A request that a client sends for itself: read, authenticated, and refused here where it must be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import Receive, Scope

from worker.sandbox.authorization_server import AuthorizationServer
from worker.sandbox.client_authentication import Credentials, authenticate, read_credentials
from worker.sandbox.clients import Client
from worker.sandbox.connection import BodyTooLargeError, read_body
from worker.sandbox.profiles import Profile
from worker.sandbox.refusal import ErrorCode, Refusal
from worker.sandbox.request_parameters import read_parameters
from worker.sandbox.tallies import NO_CLIENT


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRequest:
    """An authenticated client and the parameters that it sent."""

    client: Client
    parameters: Mapping[str, str]


async def read_client_request(
    server: AuthorizationServer, profile: Profile, scope: Scope, receive: Receive
) -> ClientRequest | Refusal:
    """Return the client's request, or why it is refused; a refusal is counted here."""
    try:
        body = await read_body(receive)
    except BodyTooLargeError as error:
        return Refusal(
            error=ErrorCode.INVALID_REQUEST,
            description=str(error),
            status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        )
    headers = Headers(scope=scope)
    parameters = read_parameters(body, content_type=headers.get("content-type", ""), encoding=profile.body)
    if isinstance(parameters, Refusal):
        return counted_refusal(server, NO_CLIENT, parameters)
    credentials = read_credentials(profile, authorization=headers.get("authorization"), parameters=parameters)
    if isinstance(credentials, Refusal):
        return counted_refusal(server, NO_CLIENT, credentials)
    client = authenticate(server.clients, profile, credentials)
    if isinstance(client, Refusal):
        return counted_refusal(server, _known_client(server, credentials), client)
    return ClientRequest(client=client, parameters=parameters)


def counted_refusal(server: AuthorizationServer, client_id: str, refusal: Refusal) -> Refusal:
    """Count a refusal that is about to be answered, and return it."""
    with server.transaction():
        server.tallies.count_error(client_id, refusal.error)
    return refusal


def _known_client(server: AuthorizationServer, credentials: Credentials) -> str:
    # A made-up client_id must not become a label or a row: whoever sends it could fill both.
    return NO_CLIENT if server.clients.find(credentials.client_id) is None else credentials.client_id
