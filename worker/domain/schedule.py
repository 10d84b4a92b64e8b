"""When to rotate: pure functions of issue time, lifetimes and one draw of chance.

The draw is made once per settle and its result stored as `rotate_at`. Drawing again at each check would give another
answer every time, and a grant could be passed over for ever.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from worker.domain.facts import Keep, TokenFacts

#: Latest share of an access token's life at which it is replaced: a quarter is left for retries and outages.
LATEST_SHARE: Final = 0.75
#: Share of the life over which rotations are spread, so that grants made together do not stay together.
SPREAD_SHARE: Final = 0.10
#: An idle refresh token is used at half of its idle time: one missed round still leaves another.
IDLE_SHARE: Final = 0.5
#: Assumed when neither the answer nor the provider's facts name a lifetime (what most providers issue).
FALLBACK_ACCESS_LIFETIME: Final = timedelta(hours=1)
#: With `keep = "refresh"` and no known idle timeout: shorter than the shortest weekly one in the catalogue.
FALLBACK_IDLE_TIMEOUT: Final = timedelta(days=7)
#: An absurd `expires_in` must not overflow a timestamp or put a grant to sleep for a century.
LONGEST_LIFETIME: Final = timedelta(days=400)

#: First wait after a failure; it doubles with every further one.
BACKOFF_BASE: Final = timedelta(seconds=2)
#: Longest wait after failures: late enough to spare a provider, early enough to notice that it is back.
BACKOFF_LONGEST: Final = timedelta(minutes=15)


def access_lifetime(answered: timedelta | None, facts: TokenFacts) -> timedelta:
    """Return how long an access token is taken to live: as answered, else by the facts, else an hour."""
    lifetime = answered or facts.access_lifetime or FALLBACK_ACCESS_LIFETIME
    return min(lifetime, LONGEST_LIFETIME)


def rotate_at(
    *, issued_at: datetime, keep: Keep, facts: TokenFacts, access: timedelta, refresh: timedelta | None, draw: float
) -> datetime:
    """Return when a grant is due next.

    Args:
        issued_at: when the tokens were asked for, on the database's clock.
        keep: whether the access token or only the grant is kept alive.
        facts: the provider's idle timeout, where known.
        access: the access token's lifetime.
        refresh: what the answer said of the refresh token's lifetime, if it did.
        draw: chance in [0, 1), drawn once by the caller.

    """
    spread = SPREAD_SHARE * draw
    idle = min((limit for limit in (refresh, facts.refresh_idle_timeout) if limit), default=None)
    before_idle = idle * (IDLE_SHARE - spread) if idle else None
    match keep:
        case Keep.ACCESS:
            before_access_ends = access * (LATEST_SHARE - spread)
            wait = min(before_access_ends, before_idle) if before_idle else before_access_ends
            return issued_at + min(wait, LONGEST_LIFETIME)
        case Keep.REFRESH:
            return issued_at + min(before_idle or FALLBACK_IDLE_TIMEOUT * (IDLE_SHARE - spread), LONGEST_LIFETIME)


def backoff(failures: int, draw: float) -> timedelta:
    """Return the wait after the given number of failures in a row: full jitter over a doubling bound.

    Full jitter spreads a fleet that failed together; the bound stops growing at 15 minutes.

    Args:
        failures: how many attempts in a row have failed, at least 1.
        draw: chance in [0, 1).

    """
    doublings = min(max(failures, 1), 30)  # past 30 the bound is far beyond the longest wait
    bound = min(BACKOFF_BASE * float(2**doublings), BACKOFF_LONGEST)
    # Never zero: a wait of nothing would make the retry immediate, which is what backoff exists to prevent.
    return BACKOFF_BASE / 2 + (bound - BACKOFF_BASE / 2) * draw
