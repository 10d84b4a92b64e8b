"""What was read of the database, as Prometheus gauges.

They are the database's values, not a process's own: a dashboard over several web processes takes the greatest of each
client, never the sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric

from worker.domain.grant import GrantState
from worker.storage.client_figures import COUNTED_AT_MOST, ClientFigures
from worker.storage.webhook_endpoints import EndpointStatus

_BOUND: Final = f"counted up to {COUNTED_AT_MOST:,} for each client"
_SHARED: Final = "Of the whole database: over web processes take max, not sum."


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was read of the database; None: not read, and shown by no gauge."""

    figures: Sequence[ClientFigures] | None
    endpoints: Sequence[EndpointStatus] | None
    oldest_snapshot: int | None
    workers: int | None


def families(found: Found | None) -> list[Metric]:
    """Return the gauges of what was read; of nothing, only that the database is away."""
    if found is None:
        return [_reachable(0)]
    figures = () if found.figures is None else _gauges(found.figures)
    workers = () if found.workers is None else (_workers_gauge(found.workers),)
    snapshot = () if found.oldest_snapshot is None else (_snapshot_gauge(found.oldest_snapshot),)
    webhooks = () if found.endpoints is None else _webhook_gauges(found.endpoints)
    # Without the figures most alerts see nothing: that must wake somebody, whatever else is read.
    return [_reachable(0 if found.figures is None else 1), *figures, *workers, *snapshot, *webhooks]


def _reachable(value: int) -> Metric:
    return GaugeMetricFamily(
        "evergrant_database_reachable",
        "1 while the database gives this process the clients' figures, else 0.",
        value=value,
    )


def _workers_gauge(workers: int) -> Metric:
    return GaugeMetricFamily(
        "evergrant_workers", f"Workers that are there, by the locks that they hold. {_SHARED}", value=workers
    )


def _gauges(figures: Sequence[ClientFigures]) -> Iterable[Metric]:
    grants = GaugeMetricFamily("evergrant_grants", f"Grants by state. {_SHARED}", labels=["client", "state"])
    overdue = GaugeMetricFamily(
        "evergrant_overdue_grants", f"Grants past rotate_at, {_BOUND}. {_SHARED}", labels=["client"]
    )
    oldest = GaugeMetricFamily(
        "evergrant_oldest_overdue_seconds",
        f"How long the oldest of them has been due, in seconds. {_SHARED}",
        labels=["client"],
    )
    expired = GaugeMetricFamily(
        "evergrant_expired_access_tokens",
        "Active grants whose access token has run out and was to be fresh: overdue, under way, or put off after a "
        "failure or a strike. With keep = refresh a token may run out before its grant is due; it is not counted. Each "
        f"of the three is {_BOUND}. {_SHARED}",
        labels=["client"],
    )
    breaker = GaugeMetricFamily(
        "evergrant_breaker_state", f"1 while the client's breaker is open. {_SHARED}", labels=["client"]
    )
    brake = GaugeMetricFamily(
        "evergrant_brake_state", f"1 while the client's brake is on. {_SHARED}", labels=["client"]
    )
    flight = GaugeMetricFamily(
        "evergrant_in_flight_grants", f"Grants under lease, whose refresh is under way. {_SHARED}", labels=["client"]
    )
    ending = GaugeMetricFamily(
        "evergrant_consents_ending",
        "Grants whose consent is about to end ([mails] ahead) and which no refresh prolongs, until their owner "
        f"consents anew, {_BOUND}. {_SHARED}",
        labels=["client"],
    )
    paused = GaugeMetricFamily(
        "evergrant_paused_state", f"1 while an operator holds the client back. {_SHARED}", labels=["client"]
    )
    throttled = GaugeMetricFamily(
        "evergrant_throttled_state", f"1 while the provider has asked for a pause. {_SHARED}", labels=["client"]
    )
    for found in figures:
        for state in GrantState:
            grants.add_metric([found.client, state.value], found.states.get(state, 0))
        overdue.add_metric([found.client], found.overdue)
        oldest.add_metric([found.client], found.oldest_overdue_seconds)
        expired.add_metric([found.client], found.expired_access_tokens)
        breaker.add_metric([found.client], 1 if found.breaker_opened_at is not None else 0)
        brake.add_metric([found.client], 1 if found.braked_at is not None else 0)
        flight.add_metric([found.client], found.in_flight)
        ending.add_metric([found.client], found.consents_ending)
        paused.add_metric([found.client], 1 if found.paused_by_operator else 0)
        throttled.add_metric([found.client], 1 if found.throttled_until is not None else 0)
    return [grants, overdue, oldest, expired, flight, ending, breaker, brake, paused, throttled]


def _snapshot_gauge(transactions: int) -> Metric:
    return GaugeMetricFamily(
        "evergrant_oldest_snapshot_transactions",
        "Transactions begun since the oldest snapshot that is still held in this database: by a session, a replication "
        "slot or a prepared transaction. Rows that died since then cannot be removed, and claims get slower. Sessions "
        f"of other roles are seen with pg_read_all_stats only. {_SHARED}",
        value=transactions,
    )


def _webhook_gauges(statuses: Sequence[EndpointStatus]) -> Iterable[Metric]:
    waiting = GaugeMetricFamily(
        "evergrant_webhook_waiting", f"Events not delivered yet. {_SHARED}", labels=["endpoint"]
    )
    oldest = GaugeMetricFamily(
        "evergrant_webhook_oldest_waiting_seconds",
        f"How long ago the oldest of them happened, in seconds. {_SHARED}",
        labels=["endpoint"],
    )
    dead = GaugeMetricFamily(
        "evergrant_webhook_dead", "Events that were given up, to be sent again by an operator.", labels=["endpoint"]
    )
    paused = GaugeMetricFamily(
        "evergrant_webhook_paused",
        "1 while an endpoint gets no events: by an operator, or its 410.",
        labels=["endpoint"],
    )
    for status in statuses:
        waiting.add_metric([status.name], status.waiting)
        oldest.add_metric([status.name], status.oldest_waiting_seconds)
        dead.add_metric([status.name], status.dead)
        paused.add_metric([status.name], 1 if status.paused_at is not None else 0)
    return [waiting, oldest, dead, paused]
