"""What is known about a provider's refresh tokens, in the words that decisions need.

An unset fact is unknown, and every decision takes the unknown as the dangerous case.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final


class Rotation(StrEnum):
    """Whether a refresh answer brings a new refresh token (RFC 6749 section 6, RFC 9700 section 4.14.2)."""

    ALWAYS = "always"
    SOMETIMES = "sometimes"
    NEVER = "never"


class OldToken(StrEnum):
    """What becomes of the presented refresh token once a new one was issued."""

    INVALIDATED = "invalidated"  #: dead at once; presenting it again may revoke the whole family
    GRACE = "grace"  #: accepted for `reuse_grace` more
    UNTIL_NEW_USED = "until_new_used"  #: accepted until the new one is presented
    STAYS_VALID = "stays_valid"  #: rotation does not touch it


class Anchor(StrEnum):
    """What a refresh token's lifetime counts from."""

    CONSENT = "consent"  #: no refresh moves its end
    ISSUE = "issue"  #: each new refresh token has it anew


class Keep(StrEnum):
    """What a client wants kept alive."""

    ACCESS = "access"  #: the access token is always fresh
    REFRESH = "refresh"  #: only the grant is kept from ending through idleness


#: A first `invalid_grant` may be a lagging replica or a bad deploy at the provider; a second one, later, is not.
DEFAULT_STRIKES: Final = 2
DEFAULT_STRIKE_INTERVAL: Final = timedelta(minutes=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFacts:
    """How one client's refresh tokens behave, and how patient to be with them."""

    rotation: Rotation | None = None
    old_token: OldToken | None = None
    reuse_grace: timedelta | None = None
    reuse_revokes_family: bool | None = None  #: a spent token that is presented again ends the whole grant
    is_refreshed: bool = True  #: False: its access tokens do not end, and there is nothing to refresh
    is_introspected: bool = False  #: whether a refresh token is still good can be asked without presenting it
    access_lifetime: timedelta | None = None  #: used where an answer names none
    refresh_lifetime: timedelta | None = None  #: the end that no refresh moves, from consent
    refresh_anchor: Anchor | None = None  #: what a refresh token's lifetime, known or answered, counts from
    refresh_idle_timeout: timedelta | None = None  #: an unused refresh token ends after this
    earliest_margin: timedelta | None = None  #: a refresh is refused sooner than this before the access token's end
    latest_margin: timedelta | None = None  #: a refresh is wanted at the latest this long before the end
    refresh_interval: timedelta | None = None  #: one grant is not refreshed more often than this
    strikes: int = DEFAULT_STRIKES
    strike_interval: timedelta = DEFAULT_STRIKE_INTERVAL

    @property
    def has_fixed_end(self) -> bool:
        """Whether a consent ends at an instant that no refresh moves: its owner is needed ahead of it."""
        return self.refresh_anchor is Anchor.CONSENT

    @property
    def is_resend_safe(self) -> bool:
        """Whether the same refresh token may be presented again at any time after an unread answer."""
        return self.rotation is Rotation.NEVER or self.old_token in {OldToken.STAYS_VALID, OldToken.UNTIL_NEW_USED}

    @property
    def is_asked_about_first(self) -> bool:
        """Whether a doubtful refresh token is asked about before it is presented again.

        Not within a reuse grace: a token that was spent there is no longer active, and is answered all the same.
        """
        return self.is_introspected and self.old_token is not OldToken.GRACE
