"""When a grant is due next, and how long to wait after failures."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.domain.duration import parse_duration
from worker.domain.facts import Keep, TokenFacts
from worker.domain.schedule import (
    BACKOFF_LONGEST,
    FALLBACK_ACCESS_LIFETIME,
    LONGEST_LIFETIME,
    access_lifetime,
    backoff,
    rotate_at,
)

ISSUED = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
TICK = timedelta(microseconds=1)

instants = st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 -- bounds are given without a zone, and `timezones` adds it
lifetimes = st.timedeltas(min_value=timedelta(milliseconds=1), max_value=timedelta(days=3650))
draws = st.floats(min_value=0, max_value=1, exclude_max=True)
keeps = st.sampled_from(Keep)
maybe_lifetimes = st.none() | lifetimes
facts_with_any_idle = st.builds(TokenFacts, refresh_idle_timeout=maybe_lifetimes)


@settings(deadline=None)
@given(issued=instants, keep=keeps, facts=facts_with_any_idle, access=lifetimes, refresh=maybe_lifetimes, draw=draws)
def test_due_between_issue_and_every_end(
    *, issued: datetime, keep: Keep, facts: TokenFacts, access: timedelta, refresh: timedelta | None, draw: float
) -> None:
    """Whatever is kept alive, the grant is due after the issue and before each end that it must not reach."""
    due = rotate_at(issued_at=issued, keep=keep, facts=facts, access=access, refresh=refresh, draw=draw)

    assert due > issued
    ends = [refresh, facts.refresh_idle_timeout, access if keep is Keep.ACCESS else None]
    assert all(due < issued + end for end in ends if end is not None)
    assert due <= issued + LONGEST_LIFETIME


@settings(deadline=None)
@given(keep=keeps, facts=facts_with_any_idle, access=lifetimes, refresh=maybe_lifetimes, pair=st.tuples(draws, draws))
def test_a_larger_draw_is_never_later(
    keep: Keep, facts: TokenFacts, access: timedelta, refresh: timedelta | None, pair: tuple[float, float]
) -> None:
    """The due time is monotone in the draw: chance only ever brings it forward."""
    earlier, later = (
        rotate_at(issued_at=ISSUED, keep=keep, facts=facts, access=access, refresh=refresh, draw=draw)
        for draw in (max(pair), min(pair))
    )

    assert earlier <= later


@settings(deadline=None)
@given(access=lifetimes.filter(lambda access: access <= LONGEST_LIFETIME), draw=draws)
def test_an_access_token_is_replaced_in_the_last_third_of_its_life(access: timedelta, draw: float) -> None:
    """Between 65 % and 75 % of the life, so that a quarter is left for retries."""
    due = rotate_at(issued_at=ISSUED, keep=Keep.ACCESS, facts=TokenFacts(), access=access, refresh=None, draw=draw)

    assert access * 0.65 - TICK <= due - ISSUED <= access * 0.75 + TICK


@settings(deadline=None)
@given(idle=lifetimes.filter(lambda idle: idle <= LONGEST_LIFETIME), access=lifetimes, draw=draws)
def test_an_idle_grant_is_used_around_half_its_idle_time(idle: timedelta, access: timedelta, draw: float) -> None:
    """With `keep = "refresh"` the access token's life plays no part, and 40 % to 50 % of the idle time is used."""
    facts = TokenFacts(refresh_idle_timeout=idle)
    due = rotate_at(issued_at=ISSUED, keep=Keep.REFRESH, facts=facts, access=access, refresh=None, draw=draw)

    assert idle * 0.4 - TICK <= due - ISSUED <= idle * 0.5 + TICK


@pytest.mark.parametrize(
    ("keep", "idle", "access", "refresh", "wait"),
    [
        pytest.param(Keep.ACCESS, None, "1h", None, timedelta(minutes=45), id="three quarters of an hour"),
        pytest.param(Keep.ACCESS, None, "24h", None, timedelta(hours=18), id="askara"),
        pytest.param(Keep.ACCESS, "1h", "24h", None, timedelta(minutes=30), id="idle timeout is sooner"),
        pytest.param(Keep.ACCESS, None, "24h", "2h", timedelta(hours=1), id="answered refresh lifetime is sooner"),
        pytest.param(Keep.ACCESS, "100d", "1h", "90d", timedelta(minutes=45), id="access is soonest"),
        pytest.param(Keep.REFRESH, None, "1h", None, timedelta(days=3.5), id="nothing known: half a week"),
        pytest.param(Keep.REFRESH, "100d", "1h", None, timedelta(days=50), id="half the idle time"),
        pytest.param(Keep.REFRESH, "100d", "1h", "60d", timedelta(days=30), id="the shorter of the two"),
        pytest.param(Keep.REFRESH, "3000d", "1h", None, LONGEST_LIFETIME, id="never asleep for years"),
    ],
)
def test_due_without_chance(keep: Keep, idle: str | None, access: str, refresh: str | None, wait: timedelta) -> None:
    """With a draw of zero the due time is the plain share of what is kept alive."""
    due = rotate_at(
        issued_at=ISSUED,
        keep=keep,
        facts=TokenFacts(refresh_idle_timeout=_length(idle)),
        access=_length(access) or timedelta(0),
        refresh=_length(refresh),
        draw=0.0,
    )

    assert due - ISSUED == wait


@pytest.mark.parametrize(
    ("answered", "fact", "taken"),
    [
        ("2h", "24h", timedelta(hours=2)),
        (None, "24h", timedelta(hours=24)),
        (None, None, FALLBACK_ACCESS_LIFETIME),
        ("0h", "24h", timedelta(hours=24)),
        ("9999d", None, LONGEST_LIFETIME),
        (None, "9999d", LONGEST_LIFETIME),
    ],
)
def test_access_lifetime_prefers_the_answer(answered: str | None, fact: str | None, taken: timedelta) -> None:
    """The answer counts before the provider's fact, the fact before an hour, and none beyond 400 days."""
    assert access_lifetime(_length(answered), TokenFacts(access_lifetime=_length(fact))) == taken


@settings(deadline=None)
@given(failures=st.integers(min_value=-5, max_value=10**9), draw=draws)
def test_backoff_stays_in_its_bounds(failures: int, draw: float) -> None:
    """Never under a second and never over 15 minutes, after however many failures."""
    assert timedelta(seconds=1) <= backoff(failures, draw) <= BACKOFF_LONGEST


@settings(deadline=None)
@given(failures=st.integers(min_value=1, max_value=100), pair=st.tuples(draws, draws))
def test_backoff_grows_with_failures_and_draw(failures: int, pair: tuple[float, float]) -> None:
    """With the same draw a further failure never shortens the wait, and a larger draw never does either."""
    assert backoff(failures, pair[0]) <= backoff(failures + 1, pair[0])
    assert backoff(failures, min(pair)) <= backoff(failures, max(pair))


@pytest.mark.parametrize(
    ("failures", "longest"), [(0, 4), (1, 4), (2, 8), (3, 16), (8, 512), (9, 900), (30, 900), (10_000, 900)]
)
def test_backoff_doubles_to_a_quarter_of_an_hour(failures: int, longest: float) -> None:
    """The bound doubles with each failure up to 900 s, and full jitter draws from the whole of it."""
    assert backoff(failures, 0.0) == timedelta(seconds=1)
    assert backoff(failures, 0.5) == timedelta(seconds=1 + (longest - 1) / 2)
    assert backoff(failures, 1 - 1e-12) == pytest.approx(timedelta(seconds=longest), abs=timedelta(milliseconds=1))


def _length(text: str | None) -> timedelta | None:
    return None if text is None else parse_duration(text)
