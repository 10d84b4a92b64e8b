"""The requests that a client would send, for a person to compare with the provider's pages. No secret is in them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from worker.commands.shown_values import discreet
from worker.domain.errors import ConfigurationError
from worker.domain.secret import Secret
from worker.oauth.authorization_request import Expected, authorization_url
from worker.oauth.client import Client, ClientKey
from worker.oauth.client_authentication import Stamp
from worker.oauth.id_token import sends_nonce
from worker.oauth.token_request import (
    Given,
    TokenRequest,
    code_request,
    introspection_request,
    refresh_request,
    revocation_request,
    upgrade_request,
)
from worker.oauth.userinfo import userinfo_request

# What stands in for secrets, in the words of the RFCs' examples.
_STATE: Final = Secret("STATE")
_NONCE: Final = Secret("NONCE")
_EXPECTED: Final = Expected(subject="SUBJECT", email="EMAIL")
_CODE: Final = Secret("CODE")
_VERIFIER: Final = Secret("CODE_VERIFIER")
_CLIENT_SECRET: Final = Secret("CLIENT_SECRET")
_ACCESS_TOKEN: Final = Secret("ACCESS_TOKEN")
_REFRESH_TOKEN: Final = Secret("REFRESH_TOKEN")
#: Of the column of the requests' names.
_WIDTH: Final = len("authorize")
_STAND_INS: Final = frozenset({_CODE, _VERIFIER, _CLIENT_SECRET, _ACCESS_TOKEN, _REFRESH_TOKEN})


def requests_of(client: Client) -> Iterator[str]:
    """Yield, line by line, what a client sends: to the owner's browser, with a code, at each refresh, and beside.

    None of the client's own secrets is needed: words stand in their place, and a key that is made here signs.
    """
    client = discreet(client)
    if client.key is not None:
        client = replace(client, key=ClientKey(private_key=_stand_in_key(), certificate=None))
    provider = client.provider
    verifier = _VERIFIER if provider.sends_pkce else None
    # An assertion that was signed for this is not shown, and would have ended long ago.
    given = Given(access_token=_ACCESS_TOKEN, stamp=Stamp(at=datetime(1970, 1, 1, tzinfo=UTC), jti="JTI"))
    yield from _step("authorize", lambda: [f"GET {_authorization_url(client)}"])
    yield from _request("code", partial(code_request, client, _CODE, verifier, _CLIENT_SECRET, given))
    if provider.upgrade is not None:
        upgrade = partial(upgrade_request, client, provider.upgrade, _ACCESS_TOKEN, _CLIENT_SECRET, given)
        yield from _request("upgrade", upgrade)
    yield from _request("refresh", partial(refresh_request, client, _REFRESH_TOKEN, _CLIENT_SECRET, given))
    # What is asked beside the token endpoint, where the provider has it.
    for name, url, build in (
        ("revoke", provider.revocation_endpoint, revocation_request),
        ("introspect", provider.introspection_endpoint, introspection_request),
    ):
        if url is not None:
            yield from _request(name, partial(build, client, url, _REFRESH_TOKEN, _CLIENT_SECRET, given))
    if provider.userinfo_endpoint is not None:
        asked = partial(userinfo_request, client, provider.userinfo_endpoint, _ACCESS_TOKEN, {})
        yield from _request("userinfo", asked)


def _request(name: str, build: Callable[[], TokenRequest]) -> Iterator[str]:
    yield from _step(name, lambda: _written(build()))


def _stand_in_key() -> Secret:
    made = ec.generate_private_key(ec.SECP256R1())
    return Secret(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii"))


def _authorization_url(client: Client) -> str:
    verifier = _VERIFIER if client.provider.sends_pkce else None
    nonce = _NONCE if sends_nonce(client) else None
    return authorization_url(client, _STATE, verifier, nonce=nonce, expected=_EXPECTED).reveal()


def _step(name: str, lines: Callable[[], list[str]]) -> Iterator[str]:
    try:
        first, *more = lines()
    except ConfigurationError as error:
        first, more = f"none: {error}", []
    yield f"{name.ljust(_WIDTH)}  {first}"
    yield from (f"{'':{_WIDTH}}  {line}" for line in more)


def _written(request: TokenRequest) -> list[str]:
    address, _, query = request.url.partition("?")
    headers = [f"{name}: {_readable(value)}" for name, value in request.headers.items()]
    body = request.content.decode("ascii")
    lines = [f"{request.method} {address}", *([f"?{query}"] if query else []), *headers, *([body] if body else [])]
    hidden = [secret.reveal() for secret in request.secrets if secret not in _STAND_INS]
    for secret in hidden:
        lines = [line.replace(secret, "***") for line in lines]
    return lines


def _readable(value: str) -> str:
    """Return a header's value, HTTP Basic as the two words that it is made of."""
    scheme, _, encoded = value.partition(" ")
    if scheme != "Basic":
        return value
    return f"Basic {base64.b64decode(encoded).decode('ascii')} (in Base64)"
