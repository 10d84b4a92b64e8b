"""What a successful answer quietly took away."""

from __future__ import annotations

import pytest

from worker.domain.drift import lacks_new_refresh_token, lost_scopes
from worker.domain.facts import Rotation, TokenFacts
from worker.domain.outcome import Tokens
from worker.domain.secret import Secret


def tokens(scopes: tuple[str, ...] | None = None, refresh: str | None = "rt") -> Tokens:
    """Return what an answer brought."""
    refresh_token = Secret(refresh) if refresh is not None else None
    return Tokens(access_token=Secret("at"), refresh_token=refresh_token, access_lifetime=None, scopes=scopes)


@pytest.mark.parametrize(
    ("held", "answered", "lost"),
    [
        (("a", "b", "c"), ("c", "a"), ("b",)),
        (("a", "b"), ("x",), ("a", "b")),
        (("a",), ("a", "b"), ()),
        (("a",), None, ()),
        (None, ("a",), ()),
        ((), ("a",), ()),
    ],
)
def test_lost_scopes(held: tuple[str, ...] | None, answered: tuple[str, ...] | None, lost: tuple[str, ...]) -> None:
    """What was held and is no longer named is lost; silence changes nothing."""
    assert lost_scopes(held, tokens(answered)) == lost


@pytest.mark.parametrize(
    ("rotation", "refresh", "lacking"),
    [
        (Rotation.ALWAYS, None, True),
        (Rotation.ALWAYS, "rt", False),
        (Rotation.SOMETIMES, None, False),
        (Rotation.NEVER, None, False),
        (None, None, False),
    ],
)
def test_a_missing_refresh_token_matters_where_there_always_is_one(
    rotation: Rotation | None, refresh: str | None, *, lacking: bool
) -> None:
    """Only a provider that always rotates owes a new refresh token."""
    assert lacks_new_refresh_token(tokens(refresh=refresh), TokenFacts(rotation=rotation)) is lacking
