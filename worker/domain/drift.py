"""What a successful answer quietly took away: a scope, or the refresh token that should have come."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from worker.domain.facts import Rotation, TokenFacts
from worker.domain.grant import ClaimedGrant
from worker.domain.outcome import Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """How an answer differs from what was agreed."""

    scopes: tuple[str, ...] | None = None  #: all that the grant now lacks; None: the answer named no scopes
    new_scopes: tuple[str, ...] = ()  #: those of them that it had until now
    lacks_refresh_token: bool = False  #: the provider always rotates, and no refresh token came


NO_DRIFT: Final = Drift()


def drift(grant: ClaimedGrant, tokens: Tokens, facts: TokenFacts) -> Drift:
    """Compare an answer with what the grant had and with what its provider always does.

    Args:
        grant: as it was claimed.
        tokens: what the answer brought.
        facts: the provider's.

    """
    held = grant.scopes or ()
    return Drift(
        scopes=None if tokens.scopes is None else lost_scopes((*grant.lost_scopes, *held), tokens),
        new_scopes=lost_scopes(held, tokens),
        lacks_refresh_token=lacks_new_refresh_token(tokens, facts),
    )


def lost_scopes(held: Iterable[str] | None, tokens: Tokens) -> tuple[str, ...]:
    """Return the scopes that a grant had and that the answer no longer names, in order.

    An answer without scopes changes none (RFC 6749 section 5.1); a grant whose scopes are unknown loses none.
    """
    if tokens.scopes is None or held == tokens.scopes:
        return ()
    return tuple(scope for scope in dict.fromkeys(held or ()) if scope not in tokens.scopes)


def lacks_new_refresh_token(tokens: Tokens, facts: TokenFacts) -> bool:
    """Tell whether a provider that always rotates gave no refresh token: what is kept may be spent already."""
    return facts.rotation is Rotation.ALWAYS and tokens.refresh_token is None
