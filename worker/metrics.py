"""Prometheus metrics: the names that dashboards and alerts rely on. A label is never a grant.

One process serves its own registry. Where several processes of one machine share PROMETHEUS_MULTIPROC_DIR, as under
`evergrant up`, their counters are summed by whichever of them is asked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from worker.domain.grant import ClaimedGrant
from worker.domain.outcome import Outcome, Reason, Rotated, label, reason
from worker.storage.rescue import Rescued

#: Seconds. A token endpoint answers in tens of milliseconds; its time limit is 20 s unless configured.
_REFRESH_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 60.0)
#: Seconds. The window in which a rotated token exists in memory only; 20 ms is the promise.
_SETTLE_BUCKETS: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0, 10.0, 60.0)
#: Seconds after `rotate_at`.
_LAG_BUCKETS: Final = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)
_SCAN_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 2.5, 10.0)
_SANDBOX: Final = "evergrant_sandbox_"


class Metrics:
    """The metrics that a process counts itself; gauges from the database are `worker.web.gauges`.

    Args:
        registry: where they are registered.
        clock: the wall clock, as seconds since the epoch, for the scan's timestamp alone.

    """

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float]) -> None:
        self._clock = clock
        # Their number is bounded: the configuration's clients, and two closed lists.
        self._series = cache(self._refresh_series)
        self.refresh = Counter(
            "evergrant_refresh_total",
            "Refresh attempts whose outcome was stored.",
            ["client", "outcome", "reason"],
            registry=registry,
        )
        self.refresh_duration = Histogram(
            "evergrant_refresh_duration_seconds",
            "How long the token endpoint took to answer.",
            ["client"],
            buckets=_REFRESH_BUCKETS,
            registry=registry,
        )
        self.settle_duration = Histogram(
            "evergrant_settle_duration_seconds",
            "From the answer read to its commit.",
            buckets=_SETTLE_BUCKETS,
            registry=registry,
        )
        self.rotation_lag = Histogram(
            "evergrant_rotation_lag_seconds",
            "How late after rotate_at the refresh began.",
            ["client"],
            buckets=_LAG_BUCKETS,
            registry=registry,
        )
        self.tokens_lost = Counter(
            "evergrant_rotated_tokens_lost_total",
            "Rotated refresh tokens that were read and could not be stored. The promise is 0.",
            registry=registry,
        )
        self.in_doubt = Counter(
            "evergrant_in_doubt_total",
            "How doubts about a spent refresh token ended.",
            ["client", "resolution"],
            registry=registry,
        )
        self.superseded = Counter(
            "evergrant_superseded_total",
            "Outcomes that were not stored because the grant had changed meanwhile.",
            registry=registry,
        )
        self.leases_rescued = Counter(
            "evergrant_leases_rescued_total", "Leases that ended without a settle.", registry=registry
        )
        self.grants_dead = Counter(
            "evergrant_grants_dead_total",
            "Grants that came to need their owner.",
            ["client", "reason"],
            registry=registry,
        )
        self.grants_revived = Counter(
            "evergrant_grants_revived_total",
            "Grants that their owner brought back.",
            ["client"],
            registry=registry,
        )
        self.consents = Counter(
            "evergrant_consents_total",
            "How consents ended that owners came back from: connected, kept, denied, account_refused or failed.",
            ["client", "outcome"],
            registry=registry,
        )
        self.reconsent_mails = Counter(
            "evergrant_reconsent_mails_total",
            "Mails that ask owners to authorize again, by what became of each attempt; one for each grant in a mail.",
            ["client", "outcome"],
            registry=registry,
        )
        self.last_scan = Gauge(
            "evergrant_last_scan_timestamp_seconds",
            "When what is due was last looked for, as seconds since the epoch.",
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self.scan_duration = Histogram(
            "evergrant_scan_duration_seconds", "How long the scan took.", buckets=_SCAN_BUCKETS, registry=registry
        )
        self.escrow_depth = Gauge(
            "evergrant_escrow_depth",
            "Tokens of rotations and consents that wait outside the database for it to come back.",
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self.escrow_refused = Gauge(
            "evergrant_escrow_refused",
            "Of those, the ones that cannot be read or that the database refuses; the log says what to do.",
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self.webhook_deliveries = Counter(
            "evergrant_webhook_deliveries_total",
            "Attempts to deliver an event to a webhook endpoint.",
            ["endpoint", "outcome"],
            registry=registry,
        )
        self.webhook_duration = Histogram(
            "evergrant_webhook_duration_seconds",
            "How long a webhook endpoint took to answer.",
            ["endpoint"],
            buckets=_REFRESH_BUCKETS,
            registry=registry,
        )
        self.clock_skew = Gauge(
            "evergrant_provider_clock_skew_seconds",
            "How far the provider's clock is ahead of the database's, to the second.",
            ["provider"],
            registry=registry,
            multiprocess_mode="mostrecent",
        )

    def refreshed(self, grant: ClaimedGrant, outcome: Outcome, *, seconds: float, late: timedelta) -> None:
        """Count one refresh whose outcome is stored."""
        count, duration, lag = self._series(grant.client, label(outcome), reason(outcome))
        count.inc()
        duration.observe(seconds)
        lag.observe(late.total_seconds())

    def _refresh_series(self, client: str, outcome: str, why: Reason) -> tuple[Counter, Histogram, Histogram]:
        return (
            self.refresh.labels(client, outcome, why.value),
            self.refresh_duration.labels(client),
            self.rotation_lag.labels(client),
        )

    def settled(self, _grant: ClaimedGrant, *, seconds: float) -> None:
        """Observe the window between an answer and its commit."""
        self.settle_duration.observe(seconds)

    def outcome_superseded(self, grant: ClaimedGrant, outcome: Outcome) -> None:
        """Count an outcome that was not stored, for the grant had changed."""
        self.superseded.inc()
        self.refresh.labels(grant.client, "superseded", reason(outcome).value).inc()

    def settle_failed(self, outcome: Outcome) -> None:
        """Count a loss, where the outcome had tokens."""
        if isinstance(outcome, Rotated):
            self.tokens_lost.inc()

    def webhook_sent(self, endpoint: str, outcome: str, *, seconds: float) -> None:
        """Count one attempt to deliver an event: `delivered`, `failed`, `dead` or `gone`."""
        self.webhook_deliveries.labels(endpoint, outcome).inc()
        self.webhook_duration.labels(endpoint).observe(seconds)

    def mailed(self, clients: Sequence[str], outcome: str) -> None:
        """Count what became of a mail, for the client of each grant in it."""
        for client in clients:
            self.reconsent_mails.labels(client, outcome).inc()

    def scanned(self, seconds: float) -> None:
        """Note that a scan was made."""
        self.last_scan.set(self._clock())
        self.scan_duration.observe(seconds)

    def rescued(self, rescued: Rescued) -> None:
        """Count leases that were ended for dead workers, and the grants that died of it."""
        self.leases_rescued.inc(rescued.leases)
        for client in rescued.given_up:
            self.grants_dead.labels(client, "rotation_reply_lost").inc()
            self.in_doubt.labels(client, "reconsent_required").inc()


def shared_registry(registry: CollectorRegistry) -> CollectorRegistry:
    """Return what a scrape reads: this process's registry, or all that share a multiprocess folder."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return registry
    shared = CollectorRegistry()
    MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
    return shared


def exposition(registry: CollectorRegistry) -> bytes:
    """Return what a scrape is answered with."""
    return generate_latest(shared_registry(registry))


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxCounts:
    """What the demo's authorization server says it saw: the other side's view of our promises."""

    presented: int
    rotations: int
    double_spends: int
    faults: int


def sandbox_counts(registry: CollectorRegistry) -> SandboxCounts | None:
    """Return the sandbox's own counts where it runs beside us and shares its metrics, else None."""
    totals: dict[str, float] = {}
    for metric in shared_registry(registry).collect():
        if metric.name.startswith(_SANDBOX):
            totals[metric.name] = sum(sample.value for sample in metric.samples if sample.name.endswith("_total"))
    if not totals:
        return None
    return SandboxCounts(
        presented=int(totals.get(f"{_SANDBOX}refresh_presented", 0)),
        rotations=int(totals.get(f"{_SANDBOX}rotations", 0)),
        double_spends=int(totals.get(f"{_SANDBOX}double_spends", 0)),
        faults=int(totals.get(f"{_SANDBOX}faults", 0)),
    )
