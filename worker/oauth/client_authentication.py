"""Client authentication: who we are, proved in a header, in the body, by a signature or by a certificate."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

from worker.domain.secret import Secret
from worker.oauth.client import Client
from worker.oauth.client_assertion import ASSERTION_TYPE, sign_assertion
from worker.oauth.provider_steps import ClientAuth


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What makes one client assertion differ from every other (RFC 7523 section 3)."""

    at: datetime
    jti: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What goes along to authenticate a client."""

    headers: dict[str, str]
    parameters: dict[str, str]
    secrets: tuple[Secret, ...]


def authenticate(
    client: Client, method: ClientAuth, client_secret: Secret | None, *, audience: str, stamp: Stamp
) -> Credentials:
    """Return the headers and parameters that authenticate a client (RFC 6749 section 2.3).

    Args:
        client: who asks.
        method: how the endpoint wants it.
        client_secret: for the methods that send one.
        audience: whom a client assertion is for.
        stamp: time and chance of a client assertion.

    """
    secret = client_secret.reveal() if client_secret is not None else ""
    secrets = (client_secret,) if client_secret is not None else ()
    named = {"client_id": client.client_id}
    match method:
        case ClientAuth.CLIENT_SECRET_BASIC:
            return Credentials(headers=basic(client.client_id, secret), parameters={}, secrets=secrets)
        case ClientAuth.SECRET_AS_BASIC_USER:
            return Credentials(headers=_basic(f"{_encoded(secret)}:"), parameters={}, secrets=secrets)
        case ClientAuth.CLIENT_SECRET_POST:
            return Credentials(headers={}, parameters={**named, "client_secret": secret}, secrets=secrets)
        case ClientAuth.PRIVATE_KEY_JWT:
            assertion = sign_assertion(client, audience=audience, at=stamp.at, jti=stamp.jti)
            parameters = {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion.reveal()}
            return Credentials(headers={}, parameters=parameters, secrets=(assertion,))
        case ClientAuth.TLS_CLIENT_AUTH | ClientAuth.SELF_SIGNED_TLS_CLIENT_AUTH | ClientAuth.NONE:
            return Credentials(headers={}, parameters=named, secrets=())


def basic(client_id: str, secret: str) -> dict[str, str]:
    """Return the header of `client_secret_basic`.

    Both parts are form-encoded before they are joined (RFC 6749 section 2.3.1), or a colon breaks them.
    """
    return _basic(f"{_encoded(client_id)}:{_encoded(secret)}")


def _basic(pair: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(pair.encode('ascii')).decode('ascii')}"}


def _encoded(text: str) -> str:
    # A space as %20 and not as +: every decoder of a form reads it, and so do those that only undo percent-encoding.
    return quote(text, safe="")
