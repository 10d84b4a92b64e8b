"""`iss` of a redirect: when an answer is taken for another server's."""

from __future__ import annotations

from typing import Any

import pytest

from worker.domain.errors import ConfigurationError
from worker.oauth.issuer import is_mixed_up
from worker.oauth.provider import Provider
from worker.oauth.registry import build_registry

ISSUER = "https://login.acme.example"
OTHER = "https://login.other.example"


def provider(**keys: Any) -> Provider:
    """Validate a provider with these keys."""
    table = {"authorization_endpoint": f"{ISSUER}/a", "token_endpoint": f"{ISSUER}/t", **keys}
    registry = build_registry(
        catalogue={}, providers={"acme": table}, clients={}, environment={}, public_url="https://tokens.example"
    )
    return registry.providers["acme"]


PROMISES = {"issuer": ISSUER, "authorization_response_iss_parameter_supported": True}


@pytest.mark.parametrize(
    ("keys", "issuer", "expected"),
    [
        ({"issuer": ISSUER}, ISSUER, False),
        ({"issuer": ISSUER}, OTHER, True),
        ({"issuer": ISSUER}, f"{ISSUER}/", True),
        ({"issuer": ISSUER}, "", True),
        ({"issuer": ISSUER}, None, False),
        (PROMISES, ISSUER, False),
        (PROMISES, None, True),
        ({"issuer": ISSUER, "issuer_pattern": rf"{ISSUER}/t\d"}, f"{ISSUER}/t1", False),
        ({"issuer": ISSUER, "issuer_pattern": rf"{ISSUER}/t\d"}, f"{ISSUER}/t1/x", True),
        ({}, None, False),
        ({}, ISSUER, False),
        ({}, OTHER, True),
    ],
)
def test_an_answer_must_come_from_who_was_asked(keys: dict[str, Any], issuer: str | None, expected: bool) -> None:
    """It is compared where the issuer is known, is there where promised, and is never another one of ours."""
    others = [provider(), provider(issuer=ISSUER), provider(issuer=OTHER, token_endpoint=f"{OTHER}/t")]

    assert is_mixed_up(provider(**keys), issuer, others) is expected


@pytest.mark.parametrize("key", ["authorization_response_iss_parameter_supported", "issuer_pattern"])
def test_nothing_is_promised_of_an_unknown_issuer(key: str) -> None:
    """A key that speaks of the issuer needs the issuer."""
    with pytest.raises(ConfigurationError, match=f"{key} needs issuer"):
        provider(**{key: True if key.startswith("auth") else "x"})
