"""What a presented refresh token means: the rules of rotation, reuse, grace and expiry, as pure functions."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from worker.domain.secret import Secret
from worker.sandbox.behaviour import Behaviour


class Delivery(StrEnum):
    """What became of the answer that consumed a refresh token."""

    IN_FLIGHT = "in_flight"
    """The rotation is committed and the answer waits for its latency or stall to pass."""

    DELIVERED = "delivered"
    """All of the answer was handed to an open connection."""

    WITHHELD = "withheld"
    """An ordered misbehaviour kept the new tokens back, wholly or in part."""

    LOST = "lost"
    """The client had hung up, or the sandbox had stopped, before the answer could be sent."""


class TokenMeaning(StrEnum):
    """What the token endpoint makes of a presented refresh token."""

    FRESH = "fresh"
    """The family's current token: a refresh is due."""

    GRACE = "grace"
    """Consumed a short while ago: the same pair is given again."""

    REUSED = "reused"
    """Consumed and outside any grace: two parties hold it, or one lost an answer."""

    UNKNOWN = "unknown"
    """Never issued here, issued to another client, or pruned long after its family was gone."""

    REVOKED = "revoked"
    """Its family was revoked."""

    EXPIRED = "expired"
    """Not used for too long, or its family's absolute lifetime is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFacts:
    """What is recorded about one refresh token and its family. Times are epoch seconds, None means never."""

    family_id: int
    client_id: str
    account: str
    scope: str
    issued_at: float
    idle_end: float | None
    family_end: float | None
    revoked_at: float | None
    consumed_at: float | None
    delivery: Delivery | None
    presented: int
    successor_consumed: bool
    answer_kept: bool

    @property
    def refresh_end(self) -> float | None:
        """When an unused token expires, in epoch seconds; None for never."""
        return earliest(self.idle_end, self.family_end)


class Replay(StrEnum):
    """How a presentation of an already consumed token is counted."""

    DOUBLE_SPEND = "double_spend"
    """The consuming answer was delivered, or is on its way to a client that still waits: this must not happen."""

    AFTER_WITHHELD_ANSWER = "after_withheld_answer"
    """The consuming answer never reached the client, which may try again."""


def token_hash(token: Secret) -> bytes:
    """Return the SHA-256 under which a token is recorded; the token itself is not."""
    return hashlib.sha256(token.reveal().encode()).digest()


def token_meaning(facts: TokenFacts | None, *, client_id: str, behaviour: Behaviour, now: float) -> TokenMeaning:
    """Decide what a refresh token presented by `client_id` at `now` (epoch seconds) means.

    A token of another client is as unknown as one never issued (RFC 6749 section 5.2, invalid_grant).
    """
    if facts is None or facts.client_id != client_id:
        return TokenMeaning.UNKNOWN
    if facts.revoked_at is not None:
        return TokenMeaning.REVOKED
    if _is_over(facts.family_end, now):
        return TokenMeaning.EXPIRED
    if facts.consumed_at is not None:
        return TokenMeaning.GRACE if _in_grace(facts, behaviour=behaviour, now=now) else TokenMeaning.REUSED
    return TokenMeaning.EXPIRED if _is_over(facts.idle_end, now) else TokenMeaning.FRESH


def replay(facts: TokenFacts) -> Replay | None:
    """Return how presenting this token counts, or None while it is unconsumed."""
    match facts.delivery:
        case None:
            return None
        case Delivery.DELIVERED | Delivery.IN_FLIGHT:
            return Replay.DOUBLE_SPEND
        case Delivery.WITHHELD | Delivery.LOST:
            return Replay.AFTER_WITHHELD_ANSWER


def earliest(*ends: float | None) -> float | None:
    """Return the first of several ends in epoch seconds, None where all are without end."""
    return min((end for end in ends if end is not None), default=None)


def end_after(start: float, lifetime: float | None) -> float | None:
    """Return the epoch second at which a lifetime in seconds that began at `start` is over, None for never."""
    return None if lifetime is None else start + lifetime


def _is_over(end: float | None, now: float) -> bool:
    return end is not None and now >= end


def _in_grace(facts: TokenFacts, *, behaviour: Behaviour, now: float) -> bool:
    if facts.consumed_at is None or not facts.answer_kept:
        return False
    if behaviour.grace_ends_on_use and facts.successor_consumed:
        return False
    return now < facts.consumed_at + behaviour.reuse_grace
