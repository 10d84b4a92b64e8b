"""What a number of grants asks for: the simulation holds to what can be reckoned by hand."""

from __future__ import annotations

import itertools
import random  # noqa: TID251 -- with a seed, it is the same each time
from dataclasses import replace
from datetime import timedelta
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.domain.capacity import DRAWS, PLANNED_SHARE, Load, capacity, simulate, waits

HOUR = timedelta(hours=1)
LOAD = Load(
    grants=1_000_000,
    access_lifetime=HOUR,
    latency=timedelta(milliseconds=50),
    spread=HOUR,
    worker_connections=20,
    web_connections=20,
)


def test_the_waits_are_those_of_the_schedule() -> None:
    """An hour's tokens are replaced between 65 and 75 % of their life, evenly."""
    between = waits(HOUR)
    assert len(between) == DRAWS
    assert (min(between) > 0.65 * 3600, max(between) < 0.75 * 3600) == (True, True)
    assert mean(between) == pytest.approx(0.70 * 3600, rel=0.001)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 100_000_000), st.floats(30, 86_400), st.floats(0, 2))
def test_in_the_long_run_every_grant_is_rotated_once_in_its_time(grants: int, lifetime: float, spread: float) -> None:
    """Whatever the beginning, the steady rate is grants over the mean wait, and the peak is no less."""
    between = waits(timedelta(seconds=lifetime))
    rates = simulate(grants, between, timedelta(seconds=lifetime * spread))
    assert rates.steady == pytest.approx(grants / mean(between), rel=0.02)
    assert rates.peak >= 0.98 * rates.steady


def test_it_agrees_with_grants_that_are_followed_one_by_one() -> None:
    """Two thousand grants, each with a draw of its own, are rotated as often as the simulation says."""
    chance = random.Random(1)
    between = waits(HOUR)
    period = mean(between)
    counted = 0
    for _grant in range(2_000):
        due = chance.random() * 3600
        while due < 20 * period:
            counted += due >= 10 * period
            due += chance.choice(between)
    rates = simulate(2_000, between, HOUR)
    assert counted / (10 * period) == pytest.approx(rates.steady, rel=0.02)


def test_a_herd_is_seen() -> None:
    """Grants that are all refreshed at once come back together: the peak is many times the steady rate."""
    together = simulate(1_000_000, waits(HOUR), timedelta(0))
    apart = simulate(1_000_000, waits(HOUR), HOUR)
    assert together.peak > 20 * together.steady
    assert apart.peak < 2 * apart.steady


def test_more_of_anything_needs_no_less() -> None:
    """More grants, shorter lives, slower endpoints and longer tokens never ask for less."""
    grown = [
        [replace(LOAD, grants=LOAD.grants * factor) for factor in (1, 2, 10, 100)],
        [replace(LOAD, access_lifetime=HOUR / factor) for factor in (1, 2, 10)],
        [replace(LOAD, latency=LOAD.latency * factor) for factor in (1, 10, 100)],
        [replace(LOAD, token_bytes=LOAD.token_bytes * factor) for factor in (1, 2, 10)],
    ]
    for loads in grown:
        for less, more in itertools.pairwise([capacity(load) for load in loads]):
            assert less.workers <= more.workers
            assert less.connections <= more.connections
            assert less.database_bytes <= more.database_bytes


def test_a_hundred_million_grants_are_planned_for() -> None:
    """A worker may be missing, the rest carries the load within its share, and everything has a size."""
    need = capacity(replace(LOAD, grants=100_000_000))
    assert need.rates.steady == pytest.approx(100_000_000 / (0.70 * 3600), rel=0.02)
    assert (need.workers - 1) * need.per_worker >= need.rates.steady
    assert need.per_worker <= PLANNED_SHARE / 0.0008
    assert need.catch_up is not None
    assert need.grants_bytes > 100_000_000 * 500
    assert need.connections == need.workers * 20 + 40
