"""When an adopted grant is refreshed first: within what is left of its tokens, and never all grants of a move at once.

A grant whose access token's end is known is due anywhere between now and the latest time that leaves room for retries:
together they ask no more of the provider than keeping them alive does anyway. Where no end is known, or it has passed,
grants take turns.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from worker.domain import schedule
from worker.domain.facts import Keep, TokenFacts

#: Share of a client's rate that first refreshes may take: the rest is for the grants that are there already.
SHARE_OF_RATE: Final = 0.5
#: First refreshes in a second where a client has no rate: a million take five and a half hours.
PACE: Final = 50.0
#: Turns longer than this are folded into it: a grant that nobody has used for a day may be near its end.
LONGEST_WAIT: Final = timedelta(hours=24)

_NOTHING: Final = timedelta(0)


def turn(place: int, *, rate_per_second: float | None, draw: float) -> timedelta:
    """Return how long the first refresh of a client's grant waits for its turn: one after the other, at half its rate.

    Past a day the turns begin again from the front, which keeps them even without knowing how many will come.

    Args:
        place: how many of this client's grants came before it.
        rate_per_second: the client's rate; None: no limit.
        draw: chance in [0, 1): where in its turn.

    """
    pace = rate_per_second * SHARE_OF_RATE if rate_per_second is not None else PACE
    seconds = (place + draw) / pace
    return timedelta(seconds=seconds % LONGEST_WAIT.total_seconds())


def first_refresh(
    *,
    now: datetime,
    keep: Keep,
    facts: TokenFacts,
    access: timedelta | None,
    refresh: timedelta | None,
    wait: timedelta,
    draw: float,
) -> datetime:
    """Return when an adopted grant is due first.

    Args:
        now: the database's clock.
        keep: whether the access token or only the grant is kept alive.
        facts: what is known of the provider's tokens.
        access: what is left of the access token's life; None: unknown, nothing or less: it has ended.
        refresh: what is left of the refresh token's life, if that is known.
        wait: its turn, which counts where the access token's end gives no time of its own.
        draw: chance in [0, 1).

    """
    if not facts.is_refreshed:
        return now + schedule.LONGEST_LIFETIME
    # Nobody knows when this grant was refreshed last, and asked too often its provider refuses.
    earliest = facts.refresh_interval or _NOTHING
    if access is None or access <= _NOTHING:
        return now + earliest + _folded(wait, _room(facts, refresh))
    known = min(access, schedule.LONGEST_LIFETIME)
    has_window = facts.earliest_margin is not None and facts.earliest_margin < known
    due = schedule.rotate_at(
        issued_at=now, keep=keep, facts=facts, access=known, refresh=refresh, draw=draw if has_window else 0.0
    )
    # Where the provider opens a window, that is short enough; elsewhere the whole time until then is free.
    return due if has_window else now + earliest + max(due - now - earliest, _NOTHING) * draw


def _room(facts: TokenFacts, refresh: timedelta | None) -> timedelta:
    """Return the part of the refresh token's life within which it is used."""
    ends = [limit for limit in (refresh, facts.refresh_idle_timeout) if limit]
    return min(ends) * schedule.IDLE_SHARE if ends else schedule.LONGEST_LIFETIME


def _folded(wait: timedelta, room: timedelta) -> timedelta:
    """Return a wait, begun again from the front where it would be longer than there is room."""
    return wait if wait < room else wait % room
