"""An authorization request (RFC 6749 section 4.1.1): what it asks for, or why it is refused and who is told."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode, urlsplit, urlunsplit

from worker.sandbox.clients import Client, Clients
from worker.sandbox.profiles import Profile
from worker.sandbox.refusal import ErrorCode, Refusal, invalid_request
from worker.sandbox.request_parameters import single_parameters

_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}")  # a SHA-256 in base64url, RFC 7636 section 4.2


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownToOwner:
    """A request whose client or redirect URI cannot be trusted: the resource owner sees an error page.

    RFC 6749 section 4.1.2.1 forbids a redirect then.
    """

    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SentToClient:
    """A refusal that goes back to the client's redirect URI."""

    redirect_uri: str
    state: str | None
    refusal: Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationRequest:
    """A request that the resource owner may allow or deny. `challenge` is PKCE's, `login_hint` prefills the account."""

    client: Client
    redirect_uri: str
    scope: str
    state: str | None
    challenge: str | None
    login_hint: str | None


def read_authorization_request(
    clients: Clients, profile: Profile, pairs: Iterable[tuple[str, str]]
) -> AuthorizationRequest | SentToClient | ShownToOwner:
    """Judge the parameters of an authorization request, given as name and value pairs."""
    parameters = single_parameters(pairs)
    if isinstance(parameters, Refusal):
        return ShownToOwner(description=parameters.description)
    client = clients.find(parameters.get("client_id", ""))
    if client is None or client.profile is not profile:
        return ShownToOwner(description="client_id names no client that is registered here")
    redirect_uri = parameters.get("redirect_uri", "")
    if redirect_uri not in client.redirect_uris:
        return ShownToOwner(description="redirect_uri is not one that the client has registered, letter by letter")
    state = parameters.get("state")
    scope = profile.scope_granted(parameters.get("scope", ""))
    refusal = _why_refused(client, parameters, scope)
    if refusal is not None:
        return SentToClient(redirect_uri=redirect_uri, state=state, refusal=refusal)
    assert scope is not None
    return AuthorizationRequest(
        client=client,
        redirect_uri=redirect_uri,
        scope=scope,
        state=state,
        challenge=parameters.get("code_challenge") if profile.pkce else None,
        login_hint=parameters.get("login_hint"),
    )


def redirect_location(redirect_uri: str, parameters: dict[str, str | None]) -> str:
    """Return the redirect URI with parameters added to its query, those that are None left out."""
    added = urlencode({name: value for name, value in parameters.items() if value is not None})
    parts = urlsplit(redirect_uri)
    return urlunsplit(parts._replace(query=f"{parts.query}&{added}" if parts.query else added))


def _why_refused(client: Client, parameters: dict[str, str], scope: str | None) -> Refusal | None:
    if parameters.get("response_type") != "code":
        return Refusal(error=ErrorCode.UNSUPPORTED_RESPONSE_TYPE, description="response_type must be code")
    if scope is None:
        return Refusal(error=ErrorCode.INVALID_SCOPE, description="the scope is unknown")
    if client.profile.state_required and "state" not in parameters:
        return invalid_request("state is missing")
    return _why_pkce_refused(client, parameters) if client.profile.pkce else None


def _why_pkce_refused(client: Client, parameters: dict[str, str]) -> Refusal | None:
    challenge = parameters.get("code_challenge")
    if challenge is None:
        # RFC 9700 section 2.1.1: a public client has nothing else that binds the code to it.
        return None if client.secret_hashes else invalid_request("code_challenge is missing")
    if parameters.get("code_challenge_method") != "S256":
        return invalid_request("code_challenge_method must be S256")
    if _CHALLENGE.fullmatch(challenge) is None:
        return invalid_request("code_challenge is not the base64url of a SHA-256")
    return None
