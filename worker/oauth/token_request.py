"""Requests to the token endpoint, built without sending: parameters, encoding and client authentication."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote_plus, urlencode

from worker.domain.secret import Secret
from worker.oauth.client import Client
from worker.oauth.provider import ClientAuth, RequestEncoding


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """A POST to the token endpoint, ready to be sent. Its body and headers hold secrets."""

    url: str
    headers: Mapping[str, str]
    content: bytes
    secrets: tuple[Secret, ...]  #: what went into it, so that nothing read from the answer repeats it

    def __repr__(self) -> str:
        return f"TokenRequest(url={self.url!r}, ***)"


def refresh_request(client: Client, refresh_token: Secret, client_secret: Secret | None) -> TokenRequest:
    """Build the refresh request (RFC 6749 section 6)."""
    parameters = {"grant_type": "refresh_token", "refresh_token": refresh_token.reveal()}
    return _token_request(client, parameters, client_secret, (refresh_token,))


def code_request(
    client: Client, code: Secret, code_verifier: Secret | None, client_secret: Secret | None
) -> TokenRequest:
    """Build the code exchange (RFC 6749 section 4.1.3), with the PKCE verifier where one was made (RFC 7636)."""
    parameters = {
        "grant_type": "authorization_code",
        "code": code.reveal(),
        "redirect_uri": client.redirect_uri,
    }
    if code_verifier is not None:
        parameters["code_verifier"] = code_verifier.reveal()
    return _token_request(client, parameters, client_secret, tuple(filter(None, (code, code_verifier))))


def revocation_request(client: Client, url: str, refresh_token: Secret, client_secret: Secret | None) -> TokenRequest:
    """Build the revocation of a refresh token (RFC 7009 section 2.1)."""
    return _token_tool_request(client, url, refresh_token, client_secret)


def introspection_request(
    client: Client, url: str, refresh_token: Secret, client_secret: Secret | None
) -> TokenRequest:
    """Build the question whether a refresh token is still good, without presenting it (RFC 7662 section 2.1)."""
    return _token_tool_request(client, url, refresh_token, client_secret)


def _token_tool_request(client: Client, url: str, refresh_token: Secret, client_secret: Secret | None) -> TokenRequest:
    parameters = {"token": refresh_token.reveal(), "token_type_hint": "refresh_token"}
    # Both RFCs know form bodies only, whatever the token endpoint wants.
    return _request(client, url, RequestEncoding.FORM, parameters, client_secret, (refresh_token,))


def _token_request(
    client: Client, parameters: dict[str, str], client_secret: Secret | None, secrets: tuple[Secret, ...]
) -> TokenRequest:
    provider = client.provider
    return _request(
        client, provider.token_endpoint, provider.token_request_encoding, parameters, client_secret, secrets
    )


def _request(  # noqa: PLR0917 -- all of them make one request
    client: Client,
    url: str,
    encoding: RequestEncoding,
    parameters: dict[str, str],
    client_secret: Secret | None,
    secrets: tuple[Secret, ...],
) -> TokenRequest:
    headers, credentials = _authenticate(client, client_secret)
    content_type, content = _encode(encoding, parameters | credentials)
    return TokenRequest(
        url=url,
        headers={"Content-Type": content_type, **headers},
        content=content,
        secrets=(*secrets, client_secret) if client_secret is not None else secrets,
    )


def _encode(encoding: RequestEncoding, parameters: dict[str, str]) -> tuple[str, bytes]:
    match encoding:
        case RequestEncoding.FORM:
            # A token that arrived with half of a surrogate pair is presented as it came, and must not raise here.
            return "application/x-www-form-urlencoded", urlencode(parameters, errors="surrogatepass").encode("ascii")
        case RequestEncoding.JSON:
            return "application/json", json.dumps(parameters).encode("ascii")


def _authenticate(client: Client, client_secret: Secret | None) -> tuple[dict[str, str], dict[str, str]]:
    """Return the headers and body parameters that authenticate the client (RFC 6749 section 2.3)."""
    secret = client_secret.reveal() if client_secret is not None else ""
    match client.provider.client_auth:
        case ClientAuth.CLIENT_SECRET_BASIC:
            # Both parts are form-encoded before they are joined (RFC 6749 section 2.3.1), or a colon breaks them.
            pair = f"{quote_plus(client.client_id)}:{quote_plus(secret)}"
            return {"Authorization": f"Basic {base64.b64encode(pair.encode('ascii')).decode('ascii')}"}, {}
        case ClientAuth.CLIENT_SECRET_POST:
            return {}, {"client_id": client.client_id, "client_secret": secret}
        case ClientAuth.NONE:
            return {}, {"client_id": client.client_id}
