"""What an endpoint's answer means, when an event is tried again, and how long a failing endpoint is spared."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.events import EventType, chosen
from worker.domain.webhook import (
    ATTEMPTS,
    FAILURES_OF_ENDPOINT,
    LONGEST_HOLD,
    LONGEST_WAIT,
    SCHEDULE,
    Delivered,
    Failed,
    Gone,
    hold,
    judge,
    next_wait,
)

DRAWS = st.floats(0, 1, exclude_max=True)
WAITS = st.none() | st.timedeltas(timedelta(0), LONGEST_WAIT)


@given(status=st.integers(100, 599), retry_after=st.none() | st.timedeltas(timedelta(0), timedelta(days=400)))
def test_every_answer_means_one_thing(status: int, retry_after: timedelta | None) -> None:
    """2xx has taken the event, 410 wants none any more, and everything else has failed, redirects included."""
    found = judge(status, retry_after)
    match found:
        case Delivered():
            assert 200 <= status <= 299
        case Gone():
            assert status == 410
        case Failed(error=error, not_now=not_now, retry_after=patience):
            assert not 200 <= status <= 299
            assert str(status) in error
            assert not_now == (status in {429, 502, 503, 504})
            assert (patience is None) == (retry_after is None)
            assert patience is None or retry_after is None or patience == min(retry_after, LONGEST_WAIT)


@given(failures=st.integers(1, ATTEMPTS - 1), retry_after=WAITS, draw=DRAWS)
def test_an_event_is_tried_again_by_the_schedule(failures: int, retry_after: timedelta | None, draw: float) -> None:
    """The wait is spread around the schedule's step, and never shorter than the endpoint has asked for."""
    wait = next_wait(failures, retry_after, draw)
    assert wait is not None
    assert wait <= max(2 * SCHEDULE[failures - 1], retry_after or timedelta(0))
    assert wait >= (retry_after or timedelta(0))
    assert next_wait(failures, None, 0.5) == SCHEDULE[failures - 1]


def test_after_the_last_attempt_an_event_is_dead() -> None:
    """Ten attempts, as the specification's example has them, over three days."""
    assert ATTEMPTS == 10
    assert next_wait(ATTEMPTS, timedelta(seconds=5), 0.5) is None
    assert sum(SCHEDULE, timedelta(0)) == timedelta(days=3, hours=3, minutes=35, seconds=5)


@given(failures=st.integers(1, 10_000), retry_after=WAITS, draw=DRAWS, not_now=st.booleans())
def test_an_endpoint_is_spared_for_its_own_failures(
    failures: int, retry_after: timedelta | None, draw: float, *, not_now: bool
) -> None:
    """It is where any event would have failed, or many did; ever longer up to a bound, or as long as it has asked."""
    failed = Failed(error="e", not_now=not_now, retry_after=retry_after)
    spared = hold(failures, failed, draw)
    if not not_now and failures < FAILURES_OF_ENDPOINT:
        assert spared is None
        return
    assert spared is not None
    assert timedelta(0) < spared <= max(LONGEST_HOLD, retry_after or timedelta(0))
    assert spared >= (retry_after or timedelta(0))


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["grant.revived"], {EventType.GRANT_REVIVED}),
        (["client.*"], {EventType.CLIENT_PAUSED, EventType.CLIENT_RESUMED, EventType.CLIENT_BRAKED}),
        (["grant.*", "client.*"], set(EventType)),
        ([], set()),
    ],
)
def test_types_are_chosen_by_name_or_by_kind(patterns: list[str], expected: set[EventType]) -> None:
    """`client.*` is every type that begins so."""
    assert chosen(patterns) == expected
