"""The few lines of an OAuth client that the tests of the servers need, on purpose none of Evergrant's own."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs, quote_plus, urlencode, urlsplit

import httpx

from tests.authorization_servers.oidc_provider import TRUST_NOBODY, ClientRegistration, OidcProvider, walk_consent
from worker.domain.secret import Secret

#: Seconds for one answer of a server on this machine.
TIMEOUT_S: Final = 30.0


class UnexpectedAnswerError(AssertionError):
    """The token endpoint answered with something else than tokens; the message is its status and error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """A successful answer (RFC 6749 section 5.1)."""

    access: Secret
    refresh: Secret
    expires_in: int  #: seconds


def authorize_url(server: OidcProvider, client: ClientRegistration, **more: str) -> str:
    """Write an authorization request for all of the client's scopes, with `more` parameters added."""
    asked = {
        "response_type": "code",
        "client_id": client.client_id,
        "redirect_uri": client.redirect_uris[0],
        "scope": client.scope,
        "prompt": "consent",
        **more,
    }
    return f"{server.authorization_endpoint}?{urlencode(asked)}"


def open_http() -> httpx.Client:
    """Make an HTTP client with a new session (an owner's browser has one), past any proxy the environment names."""
    return httpx.Client(trust_env=False, verify=TRUST_NOBODY, timeout=TIMEOUT_S)


def post_as(client: ClientRegistration, url: str, **form: str) -> httpx.Response:
    """Send a form to an endpoint as `client`, authenticated the way it is registered (RFC 6749 section 2.3.1)."""
    headers = {}
    secret = client.client_secret.reveal()
    if client.token_endpoint_auth_method == "client_secret_basic":
        pair = f"{quote_plus(client.client_id)}:{quote_plus(secret)}"
        headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    elif client.token_endpoint_auth_method == "client_secret_post":
        form |= {"client_id": client.client_id, "client_secret": secret}
    else:
        form |= {"client_id": client.client_id}
    with open_http() as http:
        return http.post(url, data=form, headers=headers)


def exchange(server: OidcProvider, client: ClientRegistration, *, callback: str, **more: str) -> Tokens:
    """Exchange the code in the redirect that `walk_consent` returned.

    Raises:
        UnexpectedAnswerError: the answer holds no tokens.
    """
    code = parse_qs(urlsplit(callback).query)["code"][0]
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": client.redirect_uris[0], **more}
    return read_tokens(post_as(client, server.token_endpoint, **form))


def consent(server: OidcProvider, client: ClientRegistration, login: str) -> Tokens:
    """Walk an owner with a new session through the forms and exchange the code.

    Raises:
        UnexpectedAnswerError: the answer holds no tokens.
    """
    with open_http() as browser:
        callback = walk_consent(browser, authorize_url(server, client), login)
    return exchange(server, client, callback=callback)


def refresh(server: OidcProvider, client: ClientRegistration, refresh_token: Secret) -> httpx.Response:
    """Present a refresh token (RFC 6749 section 6)."""
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token.reveal()}
    return post_as(client, server.token_endpoint, **form)


def revoke(server: OidcProvider, client: ClientRegistration, refresh_token: Secret) -> httpx.Response:
    """Give a refresh token back (RFC 7009 section 2.1)."""
    return post_as(client, server.revocation_endpoint, token=refresh_token.reveal(), token_type_hint="refresh_token")


def read_tokens(answer: httpx.Response) -> Tokens:
    """Read a successful answer.

    Raises:
        UnexpectedAnswerError: the answer holds no tokens.
    """
    body: dict[str, Any] = answer.json()
    if answer.status_code != httpx.codes.OK:
        message = f"{answer.status_code} {body.get('error')}: {body.get('error_description')}"
        raise UnexpectedAnswerError(message)
    return Tokens(
        access=Secret(body["access_token"]), refresh=Secret(body["refresh_token"]), expires_in=body["expires_in"]
    )


def error_of(answer: httpx.Response) -> tuple[int, str]:
    """Give an error answer's status and code (RFC 6749 section 5.2)."""
    return answer.status_code, str(answer.json()["error"])


def ask_userinfo(server: OidcProvider, access_token: Secret) -> httpx.Response:
    """Use an access token where the server itself accepts it (OpenID Connect Core section 5.3)."""
    headers = {"authorization": f"Bearer {access_token.reveal()}"}
    with open_http() as http:
        return http.get(f"{server.issuer}/me", headers=headers)
