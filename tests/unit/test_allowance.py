"""How many of a client's grants may be claimed: pause, breaker, rate and concurrency."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.domain.allowance import Allowance, ClientLimits, ClientStatus, allowance

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)

IDLE = ClientStatus(
    now=NOW,
    paused_by_operator=False,
    throttled_until=None,
    breaker_open=False,
    canary_at=None,
    resumed_at=None,
    bucket=None,
    bucket_at=None,
    in_flight=0,
)
UNLIMITED = ClientLimits(rate_per_second=None, max_in_flight=100)
TEN_PER_SECOND = ClientLimits(rate_per_second=10.0, max_in_flight=100)

rates = st.floats(min_value=1 / 3600, max_value=10_000)
steps = st.lists(
    st.tuples(
        st.timedeltas(min_value=timedelta(0), max_value=timedelta(seconds=30)),  # passes before this claim
        st.integers(min_value=0, max_value=500),  # places free
        st.integers(min_value=0, max_value=500),  # grants due
    ),
    max_size=25,
)


@pytest.mark.parametrize(
    ("free", "in_flight", "most", "grants"),
    [(5, 0, 100, 5), (500, 0, 100, 100), (500, 97, 100, 3), (500, 100, 100, 0), (500, 150, 100, 0), (0, 0, 100, 0)],
)
def test_concurrency(free: int, in_flight: int, most: int, grants: int) -> None:
    """Without a rate, the worker's free places and the client's room are all that counts."""
    limits = replace(UNLIMITED, max_in_flight=most)

    assert allowance(replace(IDLE, in_flight=in_flight), limits, free) == Allowance(grants=grants, bucket=None)


def test_a_pause_by_the_operator_allows_nothing() -> None:
    """A paused client is not even probed, and no time tells when to ask again."""
    status = replace(
        IDLE, paused_by_operator=True, breaker_open=True, canary_at=NOW - SECOND, throttled_until=NOW + SECOND
    )

    assert allowance(status, UNLIMITED, 10) == Allowance(grants=0, bucket=None)


def test_a_throttle_allows_nothing_until_it_ends() -> None:
    """While it lasts there is nothing to claim, and the wait says for how long; it ends by itself."""
    throttled = replace(IDLE, throttled_until=NOW + 90 * SECOND, breaker_open=True, canary_at=NOW)

    assert allowance(throttled, UNLIMITED, 10) == Allowance(grants=0, bucket=None, wait=90 * SECOND)
    over = replace(IDLE, throttled_until=NOW)
    assert allowance(over, UNLIMITED, 10) == Allowance(grants=10, bucket=None)


@pytest.mark.parametrize(
    ("canary_at", "in_flight", "grants"),
    [
        pytest.param(NOW, 0, 1, id="due"),
        pytest.param(NOW - timedelta(hours=1), 0, 1, id="overdue"),
        pytest.param(NOW + timedelta(microseconds=1), 0, 0, id="not yet due"),
        pytest.param(NOW, 1, 0, id="another is still in flight"),
        pytest.param(None, 0, 0, id="none is planned"),
    ],
)
def test_an_open_breaker_lets_one_canary_through(canary_at: datetime | None, in_flight: int, grants: int) -> None:
    """One grant at a time, when it is due, whatever rate and room would allow."""
    status = replace(IDLE, breaker_open=True, canary_at=canary_at, in_flight=in_flight, bucket=0.25)

    assert allowance(status, TEN_PER_SECOND, 50) == Allowance(grants=grants, bucket=0.25, is_canary=grants == 1)


@pytest.mark.parametrize(
    ("resumed_ago", "in_flight", "grants"),
    [
        *[(0, 0, 2), (0, 2, 0), (1, 0, 2), (2, 0, 4), (4, 3, 5), (6, 0, 16), (11, 0, 90), (12, 0, 100), (28, 0, 100)],
        *[(10**9, 40, 60), (-60, 0, 2)],
    ],
)
def test_a_client_that_was_resumed_catches_up_on_a_ramp(resumed_ago: float, in_flight: int, grants: int) -> None:
    """After a breaker two are in flight at first, and the room doubles every two seconds up to the limit."""
    status = replace(IDLE, resumed_at=NOW - resumed_ago * SECOND, in_flight=in_flight)

    assert allowance(status, UNLIMITED, 500) == Allowance(grants=grants, bucket=None)


@pytest.mark.parametrize(
    ("rate", "bucket", "ago", "grants", "left", "wait"),
    [
        pytest.param(10.0, None, None, 10, 10.0, None, id="never used: full"),
        pytest.param(10.0, 4.0, 0.0, 4, 4.0, None, id="what is left"),
        pytest.param(10.0, 4.0, 0.25, 6, 6.5, None, id="refilled in part"),
        pytest.param(10.0, 4.0, 60.0, 10, 10.0, None, id="never more than a second's worth"),
        pytest.param(10.0, 0.0, 0.0, 0, 0.0, 0.1, id="empty: a tenth of a second"),
        pytest.param(10.0, 0.5, -30.0, 0, 0.5, 0.05, id="a clock that went back takes nothing away"),
        pytest.param(0.1, None, None, 1, 1.0, None, id="a slow rate still holds one"),
        pytest.param(0.1, 0.0, 5.0, 0, 0.5, 5.0, id="half of one"),
        pytest.param(10_000.0, None, None, 100, 10_000.0, None, id="room is less than the rate"),
    ],
)
def test_the_bucket(
    *, rate: float, bucket: float | None, ago: float | None, grants: int, left: float, wait: float | None
) -> None:
    """The bucket fills with time up to one second's worth, and an empty one says how long to wait."""
    at = None if ago is None else NOW - ago * SECOND
    limits = ClientLimits(rate_per_second=rate, max_in_flight=100)

    allowed = allowance(replace(IDLE, bucket=bucket, bucket_at=at), limits, 500)

    assert allowed.grants == grants
    assert allowed.bucket == pytest.approx(left)
    assert allowed.wait == (None if wait is None else pytest.approx(wait * SECOND, abs=timedelta(microseconds=1)))


@settings(deadline=None)
@given(rate=rates, steps=steps)
def test_never_more_than_rate_and_burst(rate: float, steps: list[tuple[timedelta, int, int]]) -> None:
    """Over every stretch of time no more is claimed than the rate times the stretch, and one burst."""
    limits = ClientLimits(rate_per_second=rate, max_in_flight=1000)
    status = IDLE
    claims: list[tuple[datetime, int]] = []
    for passed, free, due in steps:
        status = replace(status, now=status.now + passed)
        allowed = allowance(status, limits, free)
        taken = min(allowed.grants, due)
        assert 0 <= taken <= free
        if taken:  # the claim writes the bucket only when it took something
            assert allowed.bucket is not None
            status = replace(status, bucket=allowed.bucket - taken, bucket_at=status.now)
        claims.append((status.now, taken))

    burst = max(1.0, rate)
    for first, (start, _taken) in enumerate(claims):
        total = 0
        for end, taken in claims[first:]:
            total += taken
            assert total <= rate * (end - start).total_seconds() + burst + 1e-6


@settings(deadline=None)
@given(rate=rates, bucket=st.floats(min_value=0, max_value=1, exclude_max=True))
def test_after_the_wait_one_may_be_claimed(rate: float, bucket: float) -> None:
    """Whoever waits as long as it was told finds at least one, so that a slow rate starves nobody."""
    limits = ClientLimits(rate_per_second=rate, max_in_flight=100)
    empty = replace(IDLE, bucket=bucket, bucket_at=NOW)

    wait = allowance(empty, limits, 10).wait

    assert wait is not None
    later = replace(empty, now=NOW + wait + timedelta(microseconds=1))
    assert allowance(later, limits, 10).grants >= 1
