"""When a grant is due at providers that refuse to be asked too early, too late or too often."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.domain.facts import Anchor, Keep, TokenFacts
from worker.domain.schedule import refused_until, rotate_at

ISSUED = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
TICK = timedelta(microseconds=5)

lives = st.timedeltas(min_value=timedelta(minutes=1), max_value=timedelta(days=90))
draws = st.floats(min_value=0, max_value=1, exclude_max=True)


def wait(
    facts: TokenFacts, access: timedelta, *, keep: Keep = Keep.ACCESS, draw: float = 0.0, **rest: timedelta
) -> timedelta:
    """Return how long after its issue a grant is due."""
    refresh = rest.get("refresh")
    return rotate_at(issued_at=ISSUED, keep=keep, facts=facts, access=access, refresh=refresh, draw=draw) - ISSUED


@settings(deadline=None)
@given(access=lives, share=st.floats(min_value=0.01, max_value=0.9), draw=draws, keep=st.sampled_from(Keep))
def test_no_refresh_before_the_window_opens(access: timedelta, share: float, draw: float, keep: Keep) -> None:
    """Exact Online: whatever is kept and however short the token, the last part of its life is waited for."""
    margin = access * share
    due = wait(TokenFacts(earliest_margin=margin), access, draw=draw, keep=keep)

    assert due >= access - margin
    if keep is Keep.ACCESS:
        assert due <= max(access - margin * 0.7, access * 0.75) + TICK


def test_exact_onlines_window() -> None:
    """Thirty seconds before the end of ten minutes: a few seconds past the opening, most of the window left."""
    facts = TokenFacts(earliest_margin=30 * SECOND)

    assert wait(facts, timedelta(minutes=10)) == timedelta(minutes=10) - 24 * SECOND
    assert wait(facts, timedelta(minutes=10), draw=0.999) < timedelta(minutes=10) - 20 * SECOND


@settings(deadline=None)
@given(access=lives, margin=lives, draw=draws)
def test_the_latest_margin_is_kept_where_the_life_allows_it(access: timedelta, margin: timedelta, draw: float) -> None:
    """A refresh comes so long before the end, or at half of a life that is shorter than that."""
    due = wait(TokenFacts(latest_margin=margin), access, draw=draw)

    assert timedelta(0) < due <= max(access - margin, access / 2) + TICK
    assert due <= access * 0.75 + TICK


@settings(deadline=None)
@given(
    access=lives,
    draw=draws,
    shares=st.tuples(st.floats(0.05, 0.45), st.floats(0.5, 0.9)),
)
def test_both_margins_make_a_window(access: timedelta, draw: float, shares: tuple[float, float]) -> None:
    """The due time lies between the two."""
    latest, earliest = (access * share for share in shares)
    due = wait(TokenFacts(earliest_margin=earliest, latest_margin=latest), access, draw=draw)

    assert access - earliest - TICK <= due <= access - latest + TICK


@pytest.mark.parametrize("margin", [timedelta(minutes=1), timedelta(hours=5)])
def test_a_margin_as_long_as_the_life_says_nothing(margin: timedelta) -> None:
    """Then the whole life is the window."""
    assert wait(TokenFacts(earliest_margin=margin), timedelta(minutes=1)) == timedelta(seconds=45)


@pytest.mark.parametrize(
    ("interval", "access", "due"),
    [
        pytest.param(timedelta(minutes=1), timedelta(hours=1), timedelta(minutes=45), id="Zoho: no hindrance"),
        pytest.param(timedelta(minutes=1), timedelta(seconds=40), timedelta(minutes=1), id="a life shorter than it"),
    ],
)
def test_a_grant_is_not_refreshed_more_often_than_it_may_be(
    interval: timedelta, access: timedelta, due: timedelta
) -> None:
    """The provider's limit for one grant counts before a fresh token."""
    assert wait(TokenFacts(refresh_interval=interval), access) == due


spans = st.none() | st.timedeltas(min_value=SECOND, max_value=timedelta(hours=2))


@settings(deadline=None)
@given(access=lives, earliest=spans, latest=spans, interval=spans, draw=draws)
def test_what_is_due_is_never_refused(
    *, access: timedelta, earliest: timedelta | None, latest: timedelta | None, interval: timedelta | None, draw: float
) -> None:
    """A refresh on demand is held to the same window as one by schedule, which never comes before it opens."""
    shorter = latest if earliest is not None and latest is not None and latest < earliest else None
    facts = TokenFacts(earliest_margin=earliest, latest_margin=shorter, refresh_interval=interval)

    opens = refused_until(facts, issued_at=ISSUED, access_expires_at=ISSUED + access)

    assert opens is None or opens <= ISSUED + wait(facts, access, draw=draw) + TICK
    if earliest is not None and earliest < access:
        assert opens is not None
        assert opens > ISSUED + access - earliest


@pytest.mark.parametrize(
    ("facts", "opens"),
    [
        (TokenFacts(), None),
        (TokenFacts(earliest_margin=30 * SECOND), 576 * SECOND),
        (TokenFacts(earliest_margin=30 * SECOND, latest_margin=10 * SECOND), 574 * SECOND),
        (TokenFacts(earliest_margin=timedelta(minutes=10)), None),
        (TokenFacts(refresh_interval=timedelta(minutes=1)), timedelta(minutes=1)),
        (TokenFacts(earliest_margin=30 * SECOND, refresh_interval=timedelta(minutes=11)), timedelta(minutes=11)),
    ],
)
def test_when_a_refresh_on_demand_is_taken(facts: TokenFacts, opens: timedelta | None) -> None:
    """Of a token of ten minutes: a little past the opening, not more often than the limit, else at any time."""
    ends = ISSUED + timedelta(minutes=10)

    assert refused_until(facts, issued_at=ISSUED, access_expires_at=ends) == (None if opens is None else ISSUED + opens)
    assert refused_until(facts, issued_at=None, access_expires_at=None) is None


def test_a_countdown_is_no_idle_timeout() -> None:
    """LinkedIn tells what is left of a year: a refresh each half of it would never end."""
    left = timedelta(days=2)
    hour = timedelta(days=60)

    assert wait(TokenFacts(refresh_anchor=Anchor.CONSENT), hour, refresh=left) == timedelta(days=45)
    assert wait(TokenFacts(refresh_anchor=Anchor.ISSUE), hour, refresh=left) == timedelta(days=1)
    assert wait(TokenFacts(), hour, refresh=left) == timedelta(days=1)
