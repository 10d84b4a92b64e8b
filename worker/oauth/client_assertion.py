"""Client assertions: a short-lived token that we sign ourselves, in place of a secret (RFC 7523 section 2.2)."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime, timedelta
from typing import Final

import jwt
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from worker.domain.secret import Secret
from worker.oauth.client import Algorithm, Client, ClientKey

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
#: How long an assertion is good for: beyond any time limit of a request, and too short to be worth stealing.
LIFETIME: Final = timedelta(minutes=3)
#: How far the provider's clock may be behind ours.
_SKEW: Final = timedelta(seconds=30)

_SigningKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
_CURVES: Final[dict[str, Algorithm]] = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


def sign_assertion(client: Client, *, audience: str, at: datetime, jti: str) -> Secret:
    """Sign an assertion that this client is who it says.

    Args:
        client: with a key.
        audience: whom it is for: the endpoint that is asked, or what the provider's facts say.
        at: now.
        jti: a name that no other assertion has had, so that none is taken for a replay.

    Raises:
        ValueError: when the client has no key that can sign; `check_key` finds that at the start.

    """
    if client.key is None:
        message = "the client has no private key"
        raise ValueError(message)
    key = _load(client.key)
    headers = {"kid": client.key.key_id} if client.key.key_id is not None else {}
    if client.key.certificate is not None:
        headers["x5t#S256"] = _thumbprint(client.key.certificate)
    claims = {
        "iss": client.client_id,
        "sub": client.client_id,
        "aud": audience,
        "jti": jti,
        "iat": int((at - _SKEW).timestamp()),
        "exp": int((at + LIFETIME).timestamp()),
    }
    return Secret(jwt.encode(claims, key, algorithm=client.key.algorithm or _algorithm(key), headers=headers))


def check_key(key: ClientKey) -> str | None:
    """Return what keeps a client's key from being used, in one line without the key, or None where nothing does."""
    try:
        loaded = _load(key)
    except ValueError as error:
        return f"private_key: {error}"
    fitting = _fitting(loaded)
    if not fitting:
        return "private_key: keys of this kind do not sign client assertions"
    if key.algorithm is not None and key.algorithm not in fitting:
        return (
            f"signing_algorithm: {key.algorithm} does not go with this private_key (one of {', '.join(fitting)} does)"
        )
    if key.certificate is not None:
        try:
            certificate = x509.load_pem_x509_certificate(key.certificate.encode())
        except ValueError:
            return "certificate: is not a PEM certificate"
        if certificate.public_key() != loaded.public_key():
            return "certificate: does not belong to this private_key"
    return None


def _load(key: ClientKey) -> _SigningKey:
    try:
        loaded = load_pem_private_key(key.private_key.reveal().encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm, binascii.Error):
        message = "is not a PEM private key without a password"
        raise ValueError(message) from None
    if not isinstance(loaded, _SigningKey):
        message = "keys of this kind do not sign client assertions"
        raise ValueError(message)  # noqa: TRY004 -- it is the value in the configuration that is wrong
    return loaded


def _fitting(key: _SigningKey) -> tuple[Algorithm, ...]:
    match key:
        case rsa.RSAPrivateKey():
            return ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
        case ec.EllipticCurvePrivateKey():
            return (_CURVES[key.curve.name],) if key.curve.name in _CURVES else ()
        case ed25519.Ed25519PrivateKey() | ed448.Ed448PrivateKey():
            return ("EdDSA",)


def _algorithm(key: _SigningKey) -> Algorithm:
    return _fitting(key)[0]


def _thumbprint(certificate: str) -> str:
    # RFC 7515 section 4.1.8; Microsoft Entra ID finds the key by it.
    digest = x509.load_pem_x509_certificate(certificate.encode()).fingerprint(hashes.SHA256())
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
