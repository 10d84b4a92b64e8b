"""`[sign_in]`: what it must say, and what somebody's groups make of them."""

from __future__ import annotations

from typing import Any

import pytest

from worker.domain.errors import ConfigurationError
from worker.domain.roles import Role
from worker.openid.table import build_sign_in

GOOD: dict[str, Any] = {
    "issuer": "https://login.example",
    "client_id": "evergrant",
    "client_secret": "env:SECRET",
    "groups": [{"group": "platform", "role": "admin"}, {"group": "support", "role": "operator", "client": "acme"}],
}


def build(**changed: Any) -> Any:
    """Build the rules from a table that is good but for what is changed."""
    return build_sign_in({**GOOD, **changed}, clients=["acme"], environment={"SECRET": "s3cret"})


def test_the_first_entry_that_fits_decides() -> None:
    """In the order of the file; whoever fits none stays outside, and a star fits everybody."""
    rules = build()
    for groups, expected in {
        ("support", "platform"): (Role.ADMIN, None),
        ("support",): (Role.OPERATOR, "acme"),
        ("Support",): None,
        (): None,
    }.items():
        entry = rules.role_of(groups)
        assert (None if entry is None else (entry.role, entry.client)) == expected
    assert build(groups=[{"group": "*", "role": "reader"}]).role_of([]).role is Role.READER


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"issuer": "http://login.example"}, r"\[sign_in\] issuer must be https://"),
        ({"issuer": "login.example"}, r"\[sign_in\] issuer is not an http"),
        ({"scopes": ["profile"]}, r"\[sign_in\] scopes must hold 'openid'"),
        ({"groups": []}, r"\[sign_in\].*groups"),
        ({"groups": [{"group": "a", "role": "root"}]}, r"\[\[sign_in.groups\]\] number 1: role: must be one of"),
        ({"groups": [{"group": "a", "role": "admin", "client": "nobody"}]}, "there is no client 'nobody'"),
        ({"client_secret": "s3cret-itself"}, r"\[sign_in\] client_secret must be a reference"),
        ({"client_secret": "env:ANOTHER"}, "environment variable ANOTHER is not set"),
        ({"isuer": "x"}, r"\[sign_in\].*isuer"),
    ],
)
def test_a_slip_is_named(changed: dict[str, Any], said: str) -> None:
    """Table and key stand in the message, and no secret does."""
    with pytest.raises(ConfigurationError, match=said) as refused:
        build(**changed)
    assert "s3cret" not in str(refused.value)


def test_without_the_table_people_sign_in_by_links() -> None:
    """There is nothing to validate then."""
    assert build_sign_in(None, clients=[], environment={}) is None
