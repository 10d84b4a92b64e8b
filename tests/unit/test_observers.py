"""What is told over and over costs little: a database that is away fills no disk, a clock is shown once a second."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.exposition import generate_latest
from structlog.testing import capture_logs

from tests.support.claimed_grants import claimed_grant
from worker.domain.outcome import Rotated, Tokens
from worker.domain.secret import Secret
from worker.log_sampling import FIRST, ONE_IN
from worker.metrics import Metrics, QuickHistogram
from worker.observers import Observers


def test_settles_that_are_tried_again_are_told_a_few_times() -> None:
    """Each kind of error is told at first, then one in a hundred, with how many were left out."""
    with capture_logs() as lines:
        observers = Observers(Metrics(CollectorRegistry(), lambda: 0.0), lambda: 0.0)
        for _ in range(FIRST + ONE_IN):
            observers.settle_retried("OperationalError", 1)
        observers.settle_retried("AdminShutdown", 1)
    assert len(lines) == FIRST + 2
    assert lines[FIRST]["left_out"] == ONE_IN - 1
    assert lines[-1] == {"event": "settle_retried", "log_level": "warning", "error": "AdminShutdown", "waiting": 1}


def test_a_rotations_line_says_which_grant_and_how_long() -> None:
    """Each field holds what its name says."""
    claimed = claimed_grant()
    rotated = Rotated(tokens=Tokens(access_token=Secret("a"), refresh_token=None, access_lifetime=None))
    with capture_logs() as lines:
        observers = Observers(Metrics(CollectorRegistry(), lambda: 0.0), lambda: 0.0)
        observers.refreshed(claimed, rotated, seconds=0.25, late=timedelta(seconds=3))
    assert lines == [
        {
            "event": "grant_rotated",
            "log_level": "info",
            "client": claimed.client,
            "subject": claimed.subject,
            "grant": str(claimed.lease.grant_id),
            "generation": claimed.lease.generation,
            "lease": str(claimed.lease.lease_id),
            "took_ms": 250,
            "late_ms": 3000,
        }
    ]


def test_a_providers_clock_is_shown_once_a_second() -> None:
    """The first answer of a second tells it; each provider has its own."""
    now, registry = [100.0], CollectorRegistry()
    metrics = Metrics(registry, lambda: now[0])

    def shown(provider: str) -> float | None:
        return registry.get_sample_value("evergrant_provider_clock_skew_seconds", {"provider": provider})

    metrics.skewed("a", 1.0)
    metrics.skewed("a", 2.0)
    metrics.skewed("b", 3.0)
    assert (shown("a"), shown("b")) == (1.0, 3.0)
    now[0] += 1.0
    metrics.skewed("a", 2.0)
    assert shown("a") == 2.0


@given(st.lists(st.one_of(st.sampled_from([0.0, 0.1, 2.0]), st.floats(-1.0, 100.0)), max_size=20))
def test_a_histogram_that_is_quick_counts_as_the_librarys_does(amounts: list[float]) -> None:
    """Whatever is observed, at a bucket's very bound too: the same buckets, the same sum, the same count."""
    shown = []
    for kind in (Histogram, QuickHistogram):
        registry = CollectorRegistry()
        histogram = kind("a_seconds", "An example.", ["client"], buckets=(0.1, 2.0, 10.0), registry=registry)
        for amount in amounts:
            histogram.labels("c").observe(amount)
        shown.append(generate_latest(registry))
    assert shown[0] == shown[1]
