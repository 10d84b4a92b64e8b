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
#: So many requests in a row without a readable answer stop a client: each further one would put a grant in doubt. More
#: than a restart of a server or one cut connection brings about.
SILENT_AFTER: Final = 10
#: First wait of a client that was stopped for that: a provider that only restarted is back within seconds.
SILENCE_WAIT: Final = timedelta(seconds=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenBreaker:
    """Stop refreshing for this client, for the fault is ours or the provider's; a first canary follows after `wait`."""

    cause: Cause
    wait: timedelta = CANARY_WAIT


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseBreaker:
    """The provider accepted our registration: what opened the breaker is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttle:
    """Pause the client for a while, at the provider's request."""

    cause: Cause
    wait: timedelta


ClientEffect = OpenBreaker | CloseBreaker | Throttle | None


def client_effect(outcome: Outcome, *, unread: int = 0, is_canary: bool = False) -> ClientEffect:
    """Return what the outcome of one grant's refresh does to its client.

    Args:
        outcome: of the refresh.
        unread: how many of the client's requests in a row, this one included, brought no readable answer.
        is_canary: whether it was sent to see if an open breaker may close.

    """
    match outcome:
        case Rotated() | Dead():
            # A grant that is refused for itself was looked at: our registration was accepted.
            return CloseBreaker()
        case Misconfigured(cause=cause):
            return OpenBreaker(cause=cause)
        case Throttled(cause=cause, retry_after=retry_after):
            wait = DEFAULT_THROTTLE if retry_after is None else retry_after
            return Throttle(cause=cause, wait=min(max(wait, timedelta(seconds=1)), LONGEST_THROTTLE))
        case InDoubt(cause=cause) if is_canary or unread >= SILENT_AFTER:
            return OpenBreaker(cause=cause, wait=SILENCE_WAIT)
        case Unavailable() | InDoubt():
            return None


def unread_in_a_row(before: int, outcome: Outcome) -> int:
    """Count a client's requests in a row that may have arrived and brought no readable answer."""
    match outcome:
        case InDoubt():
            return before + 1
        case Unavailable(sent=False):
            return before  # says nothing of what happens to a request that does arrive
        case _:
            return 0


def canary_wait(failed_canaries: int) -> timedelta:
    """Return how long an open breaker waits before its next canary."""
    return min(CANARY_WAIT * float(2 ** min(failed_canaries, 10)), CANARY_LONGEST)
