"""The ID token: what of it must hold before anybody is taken for signed in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.secret import Secret
from worker.oauth.client import Client
from worker.oauth.id_token import (
    LEEWAY,
    IdTokenRefused,
    SignedIn,
    asks_for_id_token,
    nonce_of,
    read_id_token,
    sends_nonce,
)
from worker.oauth.registry import build_registry

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
NONCE = nonce_of(Secret("the state"))
KEY = ec.generate_private_key(ec.SECP256R1())
CLAIMS: dict[str, Any] = {
    "iss": "https://login.acme.example",
    "sub": "248289761001",
    "aud": "abc",
    "exp": int((NOW + timedelta(minutes=5)).timestamp()),
    "nonce": NONCE.reveal(),
}
TENANT = "https://login.acme.example/11111111-2222-3333-4444-555555555555"


def client(*, scopes: tuple[str, ...] = ("openid", "profile"), **provider: Any) -> Client:
    """Build a client whose provider has these keys."""
    table = {
        "issuer": "https://login.acme.example",
        "authorization_endpoint": "https://login.acme.example/authorize",
        "token_endpoint": "https://login.acme.example/token",
        **provider,
    }
    registry = build_registry(
        catalogue={},
        providers={"acme": {name: value for name, value in table.items() if value is not None}},
        clients={"c": {"provider": "acme", "client_id": "abc", "client_secret": "env:S", "scopes": list(scopes)}},
        environment={"S": "hunter2"},
        public_url="https://tokens.example",
    )
    return registry.client("c")


def read(
    claims: dict[str, Any], asked: Client | None = None, nonce: Secret | None = NONCE
) -> SignedIn | IdTokenRefused:
    """Sign claims as the server would, and read the token."""
    kept = {name: value for name, value in claims.items() if value is not None}
    token = jwt.encode(kept, KEY, algorithm="ES256")
    return read_id_token(Secret(token), asked or client(), nonce=nonce, now=NOW)


def test_a_token_for_this_consent_says_who_signed_in() -> None:
    """`sub` is the account, wherever the issuer, we, the time and the nonce are as they must be."""
    assert read(CLAIMS) == SignedIn(account="248289761001")
    assert read({**CLAIMS, "aud": ["abc"]}) == SignedIn(account="248289761001")
    assert read({**CLAIMS, "aud": ["abc", "other"], "azp": "abc"}) == SignedIn(account="248289761001")
    assert read({**CLAIMS, "nonce": None}, nonce=None) == SignedIn(account="248289761001")


@pytest.mark.parametrize(
    ("changed", "claim"),
    [
        ({"iss": "https://attacker.example"}, "iss"),
        ({"iss": "https://login.acme.example/"}, "iss"),
        ({"iss": None}, "iss"),
        ({"aud": "somebody else"}, "aud"),
        ({"aud": ["somebody", "else"]}, "aud"),
        ({"aud": None}, "aud"),
        ({"aud": ["abc", "somebody else"]}, "azp"),
        ({"aud": ["abc", "somebody else"], "azp": "somebody else"}, "azp"),
        ({"azp": "somebody else"}, "azp"),
        ({"exp": int((NOW - LEEWAY).timestamp())}, "exp"),
        ({"exp": "tomorrow"}, "exp"),
        ({"exp": True}, "exp"),
        ({"exp": None}, "exp"),
        ({"nonce": "another consent's"}, "nonce"),
        ({"nonce": "\ud800"}, "nonce"),
        ({"nonce": None}, "nonce"),
        ({"sub": ""}, "sub"),
        ({"sub": "x" * 256}, "sub"),
        ({"sub": 7}, "sub"),
        ({"sub": "a\x00b"}, "sub"),
        ({"sub": None}, "sub"),
    ],
)
def test_a_token_for_something_else_is_refused(changed: dict[str, Any], claim: str) -> None:
    """Each claim that does not hold is named, for the log."""
    refused = read({**CLAIMS, **changed})

    assert isinstance(refused, IdTokenRefused)
    assert refused.claim == claim


def test_the_issuer_that_was_found_is_told() -> None:
    """An operator corrects `issuer` by it; what could not stand in a log line is left out."""
    assert read({**CLAIMS, "iss": "https://other.example"}) == IdTokenRefused(
        claim="iss", found="https://other.example"
    )
    assert read({**CLAIMS, "iss": "two\nlines"}) == IdTokenRefused(claim="iss")


def test_an_end_is_met_with_leeway() -> None:
    """A clock that is a little behind ours refuses nobody."""
    assert isinstance(read({**CLAIMS, "exp": (NOW - LEEWAY).timestamp() + 1}), SignedIn)


@pytest.mark.parametrize("token", ["", "a.b.c", "e30.e30.", "\ud800.a.b", "x" * 70_000, "eyJhbGciOiJub25lIn0.W10."])
def test_what_is_no_token_is_refused(token: str) -> None:
    """Neither garbage nor half a character raises."""
    assert read_id_token(Secret(token), client(), nonce=NONCE, now=NOW) in {
        IdTokenRefused(claim="format"),
        IdTokenRefused(claim="iss"),
    }


@given(st.text())
def test_no_text_raises(token: str) -> None:
    """Whatever stands where the ID token should: it is refused, and nothing raises."""
    assert isinstance(read_id_token(Secret(token), client(), nonce=NONCE, now=NOW), IdTokenRefused)


def test_a_tenant_is_part_of_the_account() -> None:
    """Where several issuers are let in, `sub` alone would not tell the account: it is unique within its issuer only."""
    many = client(issuer_pattern=r"https://login\.acme\.example/[0-9a-f-]{36}")

    assert read({**CLAIMS, "iss": TENANT}, many) == SignedIn(account=f"{TENANT} 248289761001")
    assert read(CLAIMS, many) == SignedIn(account="248289761001")
    assert isinstance(read({**CLAIMS, "iss": f"{TENANT}/more"}, many), IdTokenRefused)


def test_an_id_token_is_asked_for_with_openid_at_a_known_issuer() -> None:
    """Nobody could check it elsewhere; a provider that chokes on a nonce is spared it."""
    assert asks_for_id_token(client())
    assert not asks_for_id_token(client(scopes=("profile",)))
    assert not asks_for_id_token(client(issuer=None))
    assert sends_nonce(client())
    assert not sends_nonce(client(authorize={"omit": ["nonce"]}))


def test_a_nonce_belongs_to_its_state() -> None:
    """It is the same for the same state, another for another, and tells nothing of it."""
    state = Secret("the state")

    assert nonce_of(state) == nonce_of(state)
    assert nonce_of(state) != nonce_of(Secret("another state"))
    assert state.reveal() not in nonce_of(state).reveal()
