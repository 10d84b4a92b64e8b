"""What to do with a grant in doubt: its refresh token may have been spent, and the answer was not read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from worker.domain.facts import OldToken, TokenFacts
from worker.domain.schedule import backoff

#: A grace is trusted only up to here before its end: clocks differ, and a request takes time to arrive.
GRACE_MARGIN: Final = timedelta(seconds=3)
#: A single-use token is probed this long before the access token ends, so that the owner can be asked before it hurts.
PROBE_MARGIN: Final = timedelta(seconds=60)
#: On short-lived tokens the margin is at most this share of what is left.
PROBE_SHARE: Final = 0.25
#: A single-use token whose probes were never answered is given up after so long a doubt: no outage of a provider that
#: lives lasts longer, and some never answer for a token that has ended.
GIVEN_UP_AFTER: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class PresentAgain:
    """Present the same refresh token again at this instant."""

    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """Nothing can be learned any more without the owner."""


def is_within_grace(at: datetime, *, facts: TokenFacts, doubt_since: datetime) -> bool:
    """Tell whether a doubtful refresh token that is presented at an instant still falls into its reuse grace."""
    if facts.old_token is not OldToken.GRACE or facts.reuse_grace is None:
        return False
    return at < doubt_since + facts.reuse_grace - GRACE_MARGIN


def plan_doubt(
    *,
    facts: TokenFacts,
    now: datetime,
    doubt_since: datetime,
    presentations: int,
    access_expires_at: datetime | None,
    draw: float,
    strike_waits: datetime | None = None,
) -> PresentAgain | GiveUp:
    """Decide, by the provider's facts, whether and when a doubtful refresh token is presented again.

    Where the old token survives, soon and as often as needed; likewise where the provider can be asked first, without
    presenting it. Within a reuse grace, soon, while the grace lasts. Otherwise it is single use: the still valid access
    token stays in service and a deliberate probe is made before it ends, for the request may never have arrived. An
    answer to that probe decides. Silence decides nothing: whatever a replay can do at the provider, the first one has
    done, so the probe is repeated with growing waits until somebody answers or a day has passed.

    Args:
        facts: the fate of an old refresh token at this provider; unknown counts as single use.
        now: the database's clock.
        doubt_since: when the token was first presented without a readable answer.
        presentations: how often it has been presented by now, at least 1.
        access_expires_at: when the last known access token ends, if known.
        draw: chance in [0, 1) for the spread.
        strike_waits: until when the interval of a strike lasts, where there was one: a refusal of a token that survives
            its use would be the next, and not sooner.

    """
    soon = now + backoff(presentations, draw)
    if facts.is_resend_safe:
        return PresentAgain(at=max(soon, strike_waits or soon))
    if facts.is_asked_about_first:
        return PresentAgain(at=soon)
    again_at = now + (soon - now) / 2
    if is_within_grace(again_at, facts=facts, doubt_since=doubt_since):
        return PresentAgain(at=again_at)
    left = max((access_expires_at or now) - now, timedelta(0))
    if presentations > 1 and left == timedelta(0) and now - doubt_since >= GIVEN_UP_AFTER:
        return GiveUp()
    probe_at = now + left - min(PROBE_MARGIN, left * PROBE_SHARE)
    # Never at once, for whatever swallowed the answer is likely still there; and by half of the bound apart at least.
    return PresentAgain(at=max(now + backoff(presentations, (1 + draw) / 2), probe_at))
