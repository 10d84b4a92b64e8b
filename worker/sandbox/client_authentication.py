"""Which client sends a request: client_secret_post, client_secret_basic, or none (RFC 6749 section 2.3)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote_plus

from worker.domain.secret import Secret
from worker.sandbox.clients import Client, Clients
from worker.sandbox.profiles import Profile
from worker.sandbox.refusal import ErrorCode, Refusal, invalid_request

_BASIC: Final = "basic "


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a request says about who sends it; no secret is how a public client says it."""

    client_id: str
    client_secret: Secret | None


def read_credentials(
    profile: Profile, *, authorization: str | None, parameters: Mapping[str, str]
) -> Credentials | Refusal:
    """Return the credentials in the Authorization header or in the parameters.

    Two methods in one request are refused (RFC 6749 section 2.3). A profile without Basic ignores the header.
    """
    if authorization is None or not profile.basic_auth:
        return _credentials_of_parameters(profile, parameters)
    if "client_secret" in parameters:
        return invalid_request("more than one client authentication method")
    credentials = _credentials_of_header(authorization)
    if credentials is None:
        return _invalid_client(profile, "the Authorization header is not HTTP Basic")
    if parameters.get("client_id", credentials.client_id) != credentials.client_id:
        return invalid_request("client_id differs from the one in the Authorization header")
    return credentials


def authenticate(clients: Clients, profile: Profile, credentials: Credentials) -> Client | Refusal:
    """Return the client that the credentials prove, or the refusal `invalid_client`.

    A client of another profile is unknown here. A public client proves nothing and must not send a secret.
    """
    client = clients.find(credentials.client_id)
    if client is None or client.profile is not profile:
        return _invalid_client(profile, "the client is unknown")
    if not client.secret_hashes and credentials.client_secret is None:
        return client
    if credentials.client_secret is None or not client.has_secret(credentials.client_secret):
        return _invalid_client(profile, "the client secret is wrong")
    return client


def _credentials_of_parameters(profile: Profile, parameters: Mapping[str, str]) -> Credentials | Refusal:
    client_id = parameters.get("client_id")
    if client_id is None:
        return _invalid_client(profile, "client_id is missing")
    secret = parameters.get("client_secret")
    return Credentials(client_id=client_id, client_secret=None if secret is None else Secret(secret))


def _credentials_of_header(authorization: str) -> Credentials | None:
    if not authorization.lower().startswith(_BASIC):
        return None
    try:
        decoded = base64.b64decode(authorization[len(_BASIC) :], validate=True).decode()
    except ValueError:  # not ASCII, not base64, or not UTF-8
        return None
    client_id, colon, secret = decoded.partition(":")
    if not colon:
        return None
    # RFC 6749 section 2.3.1: both are form-encoded before they go into Basic.
    return Credentials(client_id=unquote_plus(client_id), client_secret=Secret(unquote_plus(secret)))


def _invalid_client(profile: Profile, description: str) -> Refusal:
    # RFC 6749 section 5.2 asks for the challenge where the header was used; RFC 9110 section 15.5.2 with every 401.
    challenge = (("www-authenticate", f'Basic realm="{profile.name}"'),) if profile.basic_auth else ()
    return Refusal(
        error=ErrorCode.INVALID_CLIENT,
        description=description,
        status=HTTPStatus.UNAUTHORIZED,
        headers=challenge,
    )
