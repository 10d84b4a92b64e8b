"""Prometheus metrics: the names that dashboards and alerts rely on. A label is never a grant.

What a process counts itself is here; `worker.exposition` says how it is read, `worker.web.gauges` what the database
knows.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from functools import cache
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

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
# When each series began is a series of its own, which nobody asks for.
disable_created_metrics()  # type: ignore[no-untyped-call]

#: What becomes of an attempt to mail (`worker.domain.mail_fate`), and of one whose worker ended.
MAIL_OUTCOMES: Final = ("sent", "refused", "deferred", "in_doubt", "given_up", "unavailable")
#: How a doubt ends.
_RESOLUTIONS: Final = ("rotated", "reconsent_required")
#: Why grants die, mostly: what a provider says, what was lost, and what has run out.
_DEATHS: Final = (Reason.INVALID_GRANT, Reason.ROTATION_REPLY_LOST, Reason.REFRESH_TOKEN_EXPIRED)

#: Gives the labels of an exemplar for what is being counted, such as its trace; None where there is none.
Exemplar = Callable[[], dict[str, str] | None]


def no_exemplar() -> None:
    """Give no exemplar: nothing is traced."""


class QuickHistogram(Histogram):
    """The library's, whose way to the right bucket takes half as long: three are observed at each refresh."""

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        """Observe an amount, with the trace it belongs to where there is one."""
        if exemplar is not None:
            super().observe(amount, exemplar)
            return
        self._sum.inc(amount)
        self._buckets[bisect_left(self._upper_bounds, amount)].inc(1)


class Metrics:
    """The metrics that a process counts itself; gauges from the database are `worker.web.gauges`.

    Args:
        registry: where they are registered.
        clock: the wall clock, as seconds since the epoch, for the scan's timestamp.
        exemplar: gives the trace of a refresh, for whoever asks for OpenMetrics.

    """

    def __init__(
        self, registry: CollectorRegistry, clock: Callable[[], float], exemplar: Exemplar = no_exemplar
    ) -> None:
        self._clock = clock
        self._exemplar = exemplar
        # Their number is bounded: the configuration's clients, and two closed lists.
        self._series = cache(self._refresh_series)
        self._rotated = cache(lambda client: self._series(client, "rotated", Reason.OK))
        self._died = cache(lambda client: self.refresh.labels(client, "in_doubt", Reason.WORKER_DIED.value))
        self.refresh = Counter(
            "evergrant_refresh_total",
            "Refresh attempts by what came of them; superseded: not stored, for the grant had changed meanwhile; "
            "worker_died: counted for a worker that was gone, and once more if its answer comes after all.",
            ["client", "outcome", "reason"],
            registry=registry,
        )
        self.refresh_duration = QuickHistogram(
            "evergrant_refresh_duration_seconds",
            "How long the token endpoint took to answer, in seconds: the POST.",
            ["client"],
            buckets=_REFRESH_BUCKETS,
            registry=registry,
        )
        self.settle_duration = QuickHistogram(
            "evergrant_settle_duration_seconds",
            "From the answer read to its commit, in seconds: while a rotated token exists in memory only.",
            buckets=_SETTLE_BUCKETS,
            registry=registry,
        )
        self.rotation_lag = QuickHistogram(
            "evergrant_rotation_lag_seconds",
            "How late after rotate_at the refresh began, in seconds.",
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
            "Grants that came to need their owner, by why.",
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
            "evergrant_scan_duration_seconds",
            "How long the scan for due grants took, in seconds.",
            buckets=_SCAN_BUCKETS,
            registry=registry,
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
        self.keys = Gauge(
            "evergrant_key_ring_keys",
            "Keys in EVERGRANT_KEYS: the first seals, the others only open what they have sealed before.",
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
            "How long a webhook endpoint took to answer, in seconds.",
            ["endpoint"],
            buckets=_REFRESH_BUCKETS,
            registry=registry,
        )
        self.clock_skew = Gauge(
            "evergrant_provider_clock_skew_seconds",
            "How far the provider's clock is ahead of the database's, in seconds; providers tell it to the second.",
            ["provider"],
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self._skew = cache(self.clock_skew.labels)
        self._skewed: dict[str, int] = {}  # in which second it was shown last

    def expect(self, clients: Iterable[str], *, mails: bool) -> None:
        """Begin the series of the configured clients at 0: of one that begins at 1, no rate sees the first.

        Args:
            clients: their names.
            mails: whether owners are mailed.

        """
        for client in clients:
            self._series(client, "rotated", Reason.OK)
            # Many come at once when a worker is killed: of a series that begins with them, no rate sees any.
            self._died(client)
            self.grants_revived.labels(client)
            for resolution in _RESOLUTIONS:
                self.in_doubt.labels(client, resolution)
            for why in _DEATHS:
                self.grants_dead.labels(client, why.value)
            for outcome in MAIL_OUTCOMES if mails else ():
                self.reconsent_mails.labels(client, outcome)

    def skewed(self, provider: str, seconds: float) -> None:
        """Show how far a provider's clock is ahead of the database's, at most once a second: each answer tells it."""
        now = int(self._clock())
        if self._skewed.get(provider) != now:
            self._skewed[provider] = now
            self._skew(provider).set(seconds)

    def refreshed(self, grant: ClaimedGrant, outcome: Outcome, *, seconds: float, late: timedelta) -> None:
        """Count one refresh whose outcome is stored."""
        series = self._rotated(grant.client) if isinstance(outcome, Rotated) else None
        count, duration, lag = series or self._series(grant.client, label(outcome), reason(outcome))
        exemplar = self._exemplar()
        count.inc(1, exemplar)
        duration.observe(seconds, exemplar)
        lag.observe(late.total_seconds(), exemplar)

    def _refresh_series(self, client: str, outcome: str, why: Reason) -> tuple[Counter, Histogram, Histogram]:
        return (
            self.refresh.labels(client, outcome, why.value),
            self.refresh_duration.labels(client),
            self.rotation_lag.labels(client),
        )

    def settled(self, _grant: ClaimedGrant, *, seconds: float) -> None:
        """Observe the window between an answer and its commit."""
        self.settle_duration.observe(seconds, self._exemplar())

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
        """Count leases that were ended for dead workers, the doubts they left, and the grants that died of it.

        A grant that is given up at once was left in doubt as well: nobody has read what its refresh token brought.
        """
        self.leases_rescued.inc(rescued.leases)
        for client in (*rescued.in_doubt, *rescued.given_up):
            self._died(client).inc()
        for client in rescued.given_up:
            self.grants_dead.labels(client, "rotation_reply_lost").inc()
            self.in_doubt.labels(client, "reconsent_required").inc()
