"""The authorization request: where the owner's browser is sent (RFC 6749 section 4.1.1)."""

from __future__ import annotations

import base64
import hashlib
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from worker.domain.secret import Secret
from worker.oauth.client import Client


def authorization_url(client: Client, state: Secret, code_verifier: Secret | None) -> Secret:
    """Build the URL of the authorization request; it holds the state, and so is a secret itself.

    Spaces are written as `%20` and never as `+`, which some servers take for a plus (Askara's guide asks for `%20`).

    Args:
        client: whose registration is used.
        state: the random value that the callback must bring back (RFC 6749 section 10.12).
        code_verifier: the PKCE secret whose S256 challenge is sent, where the provider takes one (RFC 7636).

    """
    provider = client.provider
    parameters = {
        "response_type": "code",
        "client_id": client.client_id,
        "redirect_uri": client.redirect_uri,
    }
    if client.scopes:
        parameters["scope"] = provider.scope_separator.join(client.scopes)
    parameters |= provider.authorize_params
    parameters["state"] = state.reveal()
    if code_verifier is not None:
        parameters |= {"code_challenge": s256(code_verifier), "code_challenge_method": "S256"}
    parts = urlsplit(provider.authorization_endpoint)
    query = urlencode([*parse_qsl(parts.query, keep_blank_values=True), *parameters.items()], quote_via=quote)
    return Secret(urlunsplit((parts.scheme, parts.netloc, parts.path, query, "")))


def s256(code_verifier: Secret) -> str:
    """Return the S256 challenge of a PKCE verifier (RFC 7636 section 4.2)."""
    digest = hashlib.sha256(code_verifier.reveal().encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
