"""Access tokens: signed JWTs (RFC 7519, HS256 of RFC 7518), so that checking one needs no row per token."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Final

from worker.domain.secret import Secret

_HEADER: Final = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=")


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessClaims:
    """What an access token says. Times are whole epoch seconds, as NumericDate of RFC 7519 section 2."""

    issuer: str
    token_id: str
    client_id: str
    family_id: int
    account: str
    scope: str
    issued_at: int
    expires_at: int


class AccessTokens:
    """Mints access tokens under one key and reads back only those."""

    def __init__(self, key: bytes) -> None:
        self._keyed = hmac.new(key, digestmod=hashlib.sha256)

    def mint(self, claims: AccessClaims) -> Secret:
        """Return the signed token that says `claims`."""
        payload = json.dumps(
            {
                "iss": claims.issuer,
                "sub": claims.account,
                "client_id": claims.client_id,
                "jti": claims.token_id,
                "iat": claims.issued_at,
                "exp": claims.expires_at,
                "scope": claims.scope,
                "family_id": claims.family_id,
            },
            separators=(",", ":"),
        )
        signed = _HEADER + b"." + _encode(payload.encode())
        return Secret((signed + b"." + _encode(self._signature(signed))).decode())

    def read(self, token: Secret) -> AccessClaims | None:
        """Return what a token says, or None when it was not minted here; expiry is the caller's to judge."""
        signed, _, signature = token.reveal().encode().rpartition(b".")
        if not hmac.compare_digest(_encode(self._signature(signed)), signature):
            return None
        try:
            payload = json.loads(base64.urlsafe_b64decode(signed.partition(b".")[2] + b"=="))
        except (binascii.Error, ValueError):  # pragma: no cover - only text of our own carries a valid signature
            return None
        return AccessClaims(
            issuer=payload["iss"],
            token_id=payload["jti"],
            client_id=payload["client_id"],
            family_id=payload["family_id"],
            account=payload["sub"],
            scope=payload["scope"],
            issued_at=payload["iat"],
            expires_at=payload["exp"],
        )

    def _signature(self, signed: bytes) -> bytes:
        keyed = self._keyed.copy()  # spares setting up the key's two blocks for each token
        keyed.update(signed)
        return keyed.digest()


def _encode(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")
