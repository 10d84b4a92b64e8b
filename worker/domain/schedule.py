"""When to rotate: pure functions of issue time, lifetimes and one draw of chance.

The draw is made once per settle and its result stored as `rotate_at`. Drawing again at each check would give another
answer every time, and a grant could be passed over for ever.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from worker.domain.facts import Anchor, Keep, TokenFacts

#: Latest share of an access token's life at which it is replaced: a quarter is left for retries and outages.
LATEST_SHARE: Final = 0.75
#: Share of the life over which rotations are spread, so that grants made together do not stay together.
SPREAD_SHARE: Final = 0.10
#: An idle refresh token is used at half of its idle time: one missed round still leaves another.
IDLE_SHARE: Final = 0.5
#: Where a provider refuses a refresh before a last short while of the access token's life, this share of it passes.
WINDOW_SHARE: Final = 0.2
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
    unknown = FALLBACK_ACCESS_LIFETIME if facts.is_refreshed else LONGEST_LIFETIME
    lifetime = answered or facts.access_lifetime or unknown
    return min(lifetime, LONGEST_LIFETIME)


def rotate_at(
    *, issued_at: datetime, keep: Keep, facts: TokenFacts, access: timedelta, refresh: timedelta | None, draw: float
) -> datetime:
    """Return when a grant is due next.

    Args:
        issued_at: when the tokens were asked for, on the database's clock.
        keep: whether the access token or only the grant is kept alive.
        facts: the provider's idle timeout and the window in which it lets a grant be refreshed, where known.
        access: the access token's lifetime.
        refresh: what the answer said of the refresh token's lifetime, if it did.
        draw: chance in [0, 1), drawn once by the caller.

    """
    if not facts.is_refreshed:
        return issued_at + LONGEST_LIFETIME
    # A lifetime that counts from the consent is a countdown, which no use of the token stops.
    renewed = refresh if facts.refresh_anchor is not Anchor.CONSENT else None
    idle = min((limit for limit in (renewed, facts.refresh_idle_timeout) if limit), default=None)
    wait = _wait(keep=keep, facts=facts, access=access, idle=idle, draw=draw)
    return issued_at + min(max(wait, _earliest(access, facts, draw)), LONGEST_LIFETIME)


def _wait(*, keep: Keep, facts: TokenFacts, access: timedelta, idle: timedelta | None, draw: float) -> timedelta:
    idle_share = IDLE_SHARE - SPREAD_SHARE * draw
    match keep:
        case Keep.ACCESS:
            before_access_ends = _before_access_ends(access, facts, draw)
            return min(before_access_ends, idle * idle_share) if idle else before_access_ends
        case Keep.REFRESH:
            return (idle or FALLBACK_IDLE_TIMEOUT) * idle_share


def _before_access_ends(access: timedelta, facts: TokenFacts, draw: float) -> timedelta:
    wait = access * (LATEST_SHARE - SPREAD_SHARE * draw)
    if facts.latest_margin is not None:
        # A margin that leaves nothing of a short life is not followed further than to its middle.
        wait = min(wait, max(access - facts.latest_margin, access / 2))
    return wait


def _earliest(access: timedelta, facts: TokenFacts, draw: float) -> timedelta:
    """Return what a provider refuses to be asked before: the opening of its window, or the next refresh of a grant."""
    interval = facts.refresh_interval or timedelta(0)
    if facts.earliest_margin is None or facts.earliest_margin >= access:
        return interval
    # Past the opening, for our clock started before the provider's; and well before the end.
    return max(interval, access - facts.earliest_margin + _window(facts) * (WINDOW_SHARE + SPREAD_SHARE * draw))


def refused_until(
    facts: TokenFacts, *, issued_at: datetime | None, access_expires_at: datetime | None
) -> datetime | None:
    """Return before when a provider refuses to refresh a grant, or None where it lets at any time.

    Args:
        facts: the window in which the provider lets a grant be refreshed, and how often.
        issued_at: when the grant's tokens were asked for, where known.
        access_expires_at: when its access token ends, where known.

    """
    opens = []
    if issued_at is not None and facts.refresh_interval is not None:
        opens.append(issued_at + facts.refresh_interval)
    if access_expires_at is not None and facts.earliest_margin is not None:
        margin = facts.earliest_margin
        if issued_at is None or margin < access_expires_at - issued_at:
            # As far past the opening as a grant that is due: our clock started before the provider's.
            opens.append(access_expires_at - margin + _window(facts) * WINDOW_SHARE)
    return max(opens, default=None)


def _window(facts: TokenFacts) -> timedelta:
    return (facts.earliest_margin or timedelta(0)) - (facts.latest_margin or timedelta(0))


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
