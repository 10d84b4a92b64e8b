"""What one outcome means for the whole client: its breaker and its pause."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from worker.domain.outcome import Cause, Dead, InDoubt, Misconfigured, Outcome, Rotated, Throttled, Unavailable

#: Asked for when a 429 names no time: long enough to matter, short enough not to make tokens late.
DEFAULT_THROTTLE: Final = timedelta(seconds=10)
#: A `Retry-After` beyond this is cut: a day's silence on one header's word would end grants.
LONGEST_THROTTLE: Final = timedelta(minutes=30)
#: First wait of an open breaker before its canary; it doubles with each failed canary.
CANARY_WAIT: Final = timedelta(seconds=10)
#: Longest wait between canaries: a mended secret is noticed within this.
CANARY_LONGEST: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenBreaker:
    """Stop refreshing for this client, for the fault is ours or the provider's."""

    cause: Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseBreaker:
    """The provider accepted our registration: what opened the breaker is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttle:
    """Pause the client for a while, at the provider's request."""

    cause: Cause
    wait: timedelta


ClientEffect = OpenBreaker | CloseBreaker | Throttle | None


def client_effect(outcome: Outcome) -> ClientEffect:
    """Return what the outcome of one grant's refresh does to its client."""
    match outcome:
        case Rotated() | Dead():
            # A grant that is refused for itself was looked at: our registration was accepted.
            return CloseBreaker()
        case Misconfigured(cause=cause):
            return OpenBreaker(cause=cause)
        case Throttled(cause=cause, retry_after=retry_after):
            wait = DEFAULT_THROTTLE if retry_after is None else retry_after
            return Throttle(cause=cause, wait=min(max(wait, timedelta(seconds=1)), LONGEST_THROTTLE))
        case Unavailable() | InDoubt():
            return None


def canary_wait(failed_canaries: int) -> timedelta:
    """Return how long an open breaker waits before its next canary."""
    return min(CANARY_WAIT * float(2 ** min(failed_canaries, 10)), CANARY_LONGEST)
