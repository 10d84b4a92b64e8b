"""The ID token that comes with a code's tokens: who signed in, in the authorization server's own words.

It is read from the answer of the token endpoint, which TLS vouches for, so its signature is not looked at (OpenID
Connect Core 1.0 section 3.1.3.7, point 6). What it says is held against whom we asked, as whom, when and with which
nonce.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import jwt

from worker.domain.secret import Secret
from worker.oauth.answer_path import is_storable
from worker.oauth.client import Client
from worker.oauth.issuer import is_issuer

#: "A small leeway, usually no more than a few minutes" (RFC 7519 section 4.1.4).
LEEWAY: Final = timedelta(minutes=2)
#: OpenID Connect Core 1.0 section 2: "sub" has at most 255 ASCII characters.
_LONGEST_SUB: Final = 255
#: Claims are a few kilobytes; what is longer is not decoded.
_LONGEST_TOKEN: Final = 64 * 1024
_SCOPE: Final = "openid"
#: Sets a nonce apart from anything else that might be made of a state.
_NONCE: Final = b"evergrant: nonce of the state "


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """Who has consented, by an ID token that holds."""

    account: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IdTokenRefused:
    """An ID token that was not made for this consent.

    Attributes:
        claim: what does not hold: `iss`, `aud`, `azp`, `exp`, `nonce` or `sub`; `format` where it cannot be read.
        found: the issuer that it names, where that is what does not hold: an operator has to correct `issuer` by it.

    """

    claim: str
    found: str | None = None


def asks_for_id_token(client: Client) -> bool:
    """Tell whether a client's consents bring an ID token that can be checked: `openid` is asked for at an issuer."""
    return _SCOPE in client.scopes and client.provider.issuer is not None


def sends_nonce(client: Client) -> bool:
    """Tell whether a client's authorization requests carry a nonce: where it can be checked, unless facts omit it."""
    return asks_for_id_token(client) and "nonce" not in client.provider.authorize.omit


def nonce_of(state: Secret) -> Secret:
    """Return the nonce that goes with a state.

    It is made of the state, which is random, kept as a hash and bound to the browser: so it needs no place of its own,
    and an ID token that was made for another consent does not have it (OpenID Connect Core 1.0 section 15.5.2).
    """
    digest = hashlib.sha256(_NONCE + state.reveal().encode()).digest()
    return Secret(urlsafe_b64encode(digest).rstrip(b"=").decode("ascii"))


def read_id_token(token: Secret, client: Client, *, nonce: Secret | None, now: datetime) -> SignedIn | IdTokenRefused:
    """Return who has consented, if the ID token was made for this client and this consent.

    Args:
        token: as it stood in the token endpoint's answer.
        client: who asked.
        nonce: what was sent along with the authorization request; None: nothing was.
        now: an instant at or before which the answer came.

    """
    if len(token.reveal()) > _LONGEST_TOKEN:
        return IdTokenRefused(claim="format")
    try:
        claims = jwt.decode(
            token.reveal(),
            options={"verify_signature": False, "verify_aud": True, "require": ["iss", "sub", "aud", "exp"]},
            audience=client.client_id,
        )
    except (jwt.InvalidAudienceError, jwt.MissingRequiredClaimError) as error:
        return IdTokenRefused(claim=getattr(error, "claim", "aud"))
    except (jwt.InvalidTokenError, ValueError, RecursionError):
        return IdTokenRefused(claim="format")
    return _checked(claims, client, nonce, now)


def _checked(
    claims: Mapping[str, Any], client: Client, nonce: Secret | None, now: datetime
) -> SignedIn | IdTokenRefused:
    issuer, subject = claims["iss"], claims["sub"]
    holds = {
        "iss": isinstance(issuer, str) and is_issuer(client.provider, issuer),
        "azp": _is_authorized_party(claims, client),
        "exp": _is_alive(claims["exp"], now),
        "nonce": nonce is None or _is_nonce(claims.get("nonce"), nonce),
        "sub": isinstance(subject, str) and 0 < len(subject) <= _LONGEST_SUB and is_storable(subject),
    }
    broken = next((claim for claim, is_held in holds.items() if not is_held), None)
    if broken is not None:
        return IdTokenRefused(claim=broken, found=issuer if broken == "iss" and _is_shown(issuer) else None)
    # "sub" is unique within its issuer only, and a pattern lets several of them in.
    return SignedIn(account=subject if issuer == client.provider.issuer else f"{issuer} {subject}")


def _is_authorized_party(claims: Mapping[str, Any], client: Client) -> bool:
    # Section 3.1.3.7, points 4 and 5: of several audiences, the one that it was issued to must be us.
    audience, party = claims["aud"], claims.get("azp")
    is_for_several = isinstance(audience, list) and len(audience) > 1
    return party == client.client_id if party is not None or is_for_several else True


def _is_alive(expires_at: object, now: datetime) -> bool:
    if isinstance(expires_at, bool) or not isinstance(expires_at, int | float):
        return False
    return expires_at > (now - LEEWAY).timestamp()


def _is_nonce(found: object, sent: Secret) -> bool:
    return isinstance(found, str) and hmac.compare_digest(
        found.encode("utf-8", "surrogatepass"), sent.reveal().encode("ascii")
    )


def _is_shown(issuer: object) -> bool:
    return isinstance(issuer, str) and len(issuer) <= 200 and issuer.isprintable()  # noqa: PLR2004 -- a log line
