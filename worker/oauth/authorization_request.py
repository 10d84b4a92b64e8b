"""The authorization request: where the owner's browser is sent (RFC 6749 section 4.1.1)."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, quote_plus, urlencode, urlsplit, urlunsplit

from worker.domain.errors import ConfigurationError
from worker.domain.secret import Secret
from worker.oauth.client import Client
from worker.oauth.placeholders import names_in
from worker.oauth.provider import OWNER_VALUES
from worker.oauth.provider_values import Parameter
from worker.oauth.request_encoding import written
from worker.oauth.request_values import filled_parameters, filled_url, request_values


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """Whom we expect to come: what a provider may be told, so that the right account is at hand."""

    subject: str
    email: str | None = None


def hints_email(client: Client) -> bool:
    """Tell whether a client's authorization requests name the owner's e-mail address, such as in `login_hint`."""
    return "email" in names_in(text for text in client.provider.authorize.params.values() if isinstance(text, str))


def authorization_url(
    client: Client,
    state: Secret,
    code_verifier: Secret | None,
    *,
    nonce: Secret | None = None,
    expected: Expected | None = None,
) -> Secret:
    """Build the URL of the authorization request; it holds the state, and so is a secret itself.

    Spaces are written as `%20` unless the provider's facts say otherwise: some servers take a `+` for a plus (Askara's
    guide asks for `%20`).

    Args:
        client: whose registration is used.
        state: the random value that the callback must bring back (RFC 6749 section 10.12).
        code_verifier: the PKCE secret whose S256 challenge is sent, where the provider takes one (RFC 7636).
        nonce: what the ID token must bring back, where one is asked for (OpenID Connect Core 1.0 section 3.1.2.1).
        expected: fills `{subject}` and `{email}` of the provider's parameters, such as `login_hint`.

    Raises:
        ConfigurationError: when the provider has no such endpoint, or nothing fills in one of its placeholders.

    """
    provider, step = client.provider, client.provider.authorize
    if provider.authorization_endpoint is None:
        message = f"provider {provider.name!r} has no authorization_endpoint: its grants can only be adopted"
        raise ConfigurationError(message)
    whom = {"subject": expected.subject, "email": expected.email or ""} if expected is not None else {}
    values = {**dict.fromkeys(OWNER_VALUES, ""), **whom, **request_values(client, {})}
    parameters: dict[str, Parameter] = {
        "response_type": "code",
        "client_id": client.client_id,
        "redirect_uri": client.redirect_uri,
    }
    if client.scopes:
        parameters["scope"] = values["scope"]
    kept = {step.rename.get(name, name): value for name, value in parameters.items() if name not in step.omit}
    wanted = {name: value for name, value in step.params.items() if name not in step.omit}
    kept |= filled_parameters(wanted, values, "authorize.params")
    ours = {"state": state.reveal()}
    if nonce is not None:
        ours["nonce"] = nonce.reveal()
    if code_verifier is not None:
        ours |= {"code_challenge": s256(code_verifier), "code_challenge_method": "S256"}
    # Last, so that nothing configured takes the place of what protects the owner.
    kept |= {step.rename.get(name, name): value for name, value in ours.items()}
    endpoint = filled_url(provider.authorization_endpoint, values, "authorization_endpoint")
    parts = urlsplit(endpoint)
    query = urlencode(
        [*parse_qsl(parts.query, keep_blank_values=True), *((name, written(value)) for name, value in kept.items())],
        quote_via=quote if step.space_encoding == "%20" else quote_plus,
    )
    return Secret(urlunsplit((parts.scheme, parts.netloc, parts.path, query, "")))


def s256(code_verifier: Secret) -> str:
    """Return the S256 challenge of a PKCE verifier (RFC 7636 section 4.2)."""
    digest = hashlib.sha256(code_verifier.reveal().encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
