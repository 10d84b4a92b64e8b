"""What the bench sums up out of a steady state."""

from __future__ import annotations

import pytest

from tests.bench.steady_report import quantile


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0.25, 0.5),  # in the middle of the first bucket
        (0.5, 1.0),
        (0.75, 1.5),
        (1.0, 2.0),  # beyond the last bound nothing is known but the bound
    ],
)
def test_a_quantile_is_drawn_straight_within_its_bucket(share: float, expected: float) -> None:
    """Half of the observations are at most 1 s, 95 of 100 at most 1.9 s, and so on."""
    buckets = {1.0: 50.0, 2.0: 100.0, float("inf"): 100.0}
    assert quantile(buckets, share) == pytest.approx(expected)


def test_a_quantile_beyond_the_last_bound_is_that_bound() -> None:
    """As Prometheus itself answers."""
    assert quantile({1.0: 0.0, 2.0: 10.0, float("inf"): 100.0}, 0.99) == 2.0
    assert quantile({}, 0.5) == 0.0
