"""When adopted grants are refreshed first: in time for their tokens, and never all at once."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.domain.facts import Keep, TokenFacts
from worker.domain.first_refresh import LONGEST_WAIT, PACE, first_refresh, turn
from worker.domain.schedule import LONGEST_LIFETIME

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
NOTHING = timedelta(0)

draws = st.floats(min_value=0, max_value=1, exclude_max=True)
lives = st.timedeltas(min_value=timedelta(seconds=1), max_value=timedelta(days=3650))
maybe_lives = st.none() | lives
waits = st.timedeltas(min_value=NOTHING, max_value=timedelta(days=60))
some_facts = st.builds(TokenFacts, refresh_idle_timeout=maybe_lives)


@settings(deadline=None)
@given(
    keep=st.sampled_from(Keep),
    facts=some_facts,
    access=st.none() | st.timedeltas(min_value=timedelta(days=-900), max_value=timedelta(days=900)),
    refresh=maybe_lives,
    wait=waits,
    draw=draws,
)
def test_due_from_now_on_and_before_every_end(
    *,
    keep: Keep,
    facts: TokenFacts,
    access: timedelta | None,
    refresh: timedelta | None,
    wait: timedelta,
    draw: float,
) -> None:
    """Whatever is known, the first refresh is not before now, and leaves room before each end that is known."""
    due = first_refresh(now=NOW, keep=keep, facts=facts, access=access, refresh=refresh, wait=wait, draw=draw)

    assert NOW <= due <= NOW + LONGEST_LIFETIME
    ends = [refresh, facts.refresh_idle_timeout]
    if keep is Keep.ACCESS and access is not None and access > NOTHING:
        ends.append(access)
    assert all(due - NOW < end for end in ends if end is not None)


@settings(deadline=None)
@given(wait=waits, draw=draws)
def test_without_any_end_its_turn_decides(wait: timedelta, draw: float) -> None:
    """An access token that has ended, or whose end nobody knows, is replaced when its turn comes."""
    for access in (None, NOTHING, timedelta(hours=-1)):
        due = first_refresh(
            now=NOW, keep=Keep.ACCESS, facts=TokenFacts(), access=access, refresh=None, wait=wait, draw=draw
        )
        assert due == NOW + wait


def test_grants_whose_tokens_end_together_are_not_due_together() -> None:
    """A thousand access tokens with the same hour left are replaced evenly over its first three quarters."""
    hour = timedelta(hours=1)
    due = [
        first_refresh(
            now=NOW, keep=Keep.ACCESS, facts=TokenFacts(), access=hour, refresh=None, wait=NOTHING, draw=place / 1000
        )
        for place in range(1000)
    ]

    minutes = Counter((at - NOW) // timedelta(minutes=1) for at in due)
    assert max(due) <= NOW + hour * 0.75
    assert set(minutes) >= set(range(40))
    assert max(minutes.values()) <= 40


@settings(deadline=None)
@given(
    rate=st.none() | st.floats(min_value=0.05, max_value=5000),
    first=st.integers(min_value=0, max_value=2_000_000),
    chance=st.lists(draws, min_size=40, max_size=40),
)
def test_turns_take_half_of_the_rate(*, rate: float | None, first: int, chance: list[float]) -> None:
    """Neighbours have turns of their own, one after the other, no closer together than half the rate allows."""
    pace = rate / 2 if rate is not None else PACE
    found = [turn(first + place, rate_per_second=rate, draw=draw) for place, draw in enumerate(chance)]

    assert all(NOTHING <= wait < LONGEST_WAIT for wait in found)
    for before, after in zip(found, found[2:], strict=False):
        apart = (after - before) % LONGEST_WAIT  # a turn past the day is at its beginning
        assert apart.total_seconds() >= min(1 / pace, (LONGEST_WAIT / 2).total_seconds()) * 0.999 - 1e-5 or pace < 1e-4


def test_a_million_turns_are_spread_evenly() -> None:
    """Whether they fit into a day or not, no hour has notably more first refreshes than another."""
    for rate, hours in ((None, 5), (10.0, 24)):
        found = Counter(
            int(turn(place, rate_per_second=rate, draw=0.5).total_seconds() // 3600) for place in range(0, 1_000_000, 7)
        )
        full = [found[hour] for hour in range(hours)]
        assert max(full) < min(full) * 1.6, rate


@pytest.mark.parametrize(
    ("facts", "access", "earliest", "latest"),
    [
        (TokenFacts(is_refreshed=False), None, LONGEST_LIFETIME, LONGEST_LIFETIME),
        (TokenFacts(refresh_interval=timedelta(hours=2)), None, timedelta(hours=2), timedelta(hours=8)),
        (TokenFacts(earliest_margin=timedelta(hours=1)), timedelta(hours=9), timedelta(hours=8), timedelta(hours=9)),
        (TokenFacts(refresh_idle_timeout=timedelta(minutes=30)), None, NOTHING, timedelta(minutes=15)),
    ],
    ids=["it does not end", "not more often than", "not sooner than", "ends if idle"],
)
@settings(deadline=None)
@given(wait=st.timedeltas(min_value=NOTHING, max_value=timedelta(hours=6)), draw=draws)
def test_the_provider_is_not_asked_before_it_answers(
    *, facts: TokenFacts, access: timedelta | None, earliest: timedelta, latest: timedelta, wait: timedelta, draw: float
) -> None:
    """A window in which refreshes are taken, and the time between two of them, are kept to for the first one too."""
    due = first_refresh(now=NOW, keep=Keep.ACCESS, facts=facts, access=access, refresh=None, wait=wait, draw=draw)

    assert NOW + earliest <= due <= NOW + latest
