"""Looks at a running deployment from outside: lag, CPU, memory, sizes, and what its own metrics say."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import httpx
import psycopg
from prometheus_client.parser import text_string_to_metric_families

from tests.bench.processes import cpu_seconds, resident_bytes
from tests.bench.world import CLIENT, World
from tests.support.deployment import Deployment

_OVERDUE: Final = """
    SELECT coalesce(extract(epoch FROM clock_timestamp() - min(rotate_at)), 0) FROM grants
     WHERE client = %s AND leased_until IS NULL AND rotate_at <= now()
"""
_SIZES: Final = """
    SELECT pg_relation_size('grants'), pg_indexes_size('grants'), pg_total_relation_size('rotations'),
           pg_database_size(current_database()), n_dead_tup, n_tup_upd, n_tup_hot_upd, autovacuum_count
      FROM pg_stat_user_tables WHERE relname = 'grants'
"""
_EXPIRED: Final = "SELECT count(*) FROM grants WHERE state <> 'reconsent_required' AND access_expires_at < now()"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What a table takes: bytes, rows, and how its updates went."""

    heap: int
    indexes: int
    rotations: int
    database: int
    dead_rows: int
    updates: int
    hot_updates: int
    vacuums: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One look. What only a thorough one tells is None in the others.

    Attributes:
        at: seconds on the monotonic clock.
        rotated: refresh tokens that the endpoint has accepted so far.
        overdue: how long the oldest due grant has been due, seconds.
        cpu: CPU seconds so far, by process; `postgres` too.
        memory: bytes held, by process.
        sizes: of the table.
        scrape: seconds that the web process took to show its metrics, with the gauges from the database.
        settled: settle durations so far, by the upper bound of their bucket.
        late: how late rotations began so far, the same way.

    """

    at: float
    rotated: int
    overdue: float
    cpu: Mapping[str, float]
    memory: Mapping[str, int]
    sizes: Sizes | None = None
    scrape: float | None = None
    settled: Mapping[float, float] | None = None
    late: Mapping[float, float] | None = None


class Watch:
    """Takes samples.

    Args:
        world: the servers.
        connection: to Evergrant's database, for the bench alone.
        deployment: what is watched.
        addresses: where metrics are served, the web's last.

    """

    def __init__(
        self, world: World, connection: psycopg.Connection, deployment: Deployment, addresses: list[str]
    ) -> None:
        self._world = world
        self._connection = connection
        self._processes = {name: process.pid for name, process in deployment.processes.items()}
        self._addresses = addresses

    def sample(self, *, thorough: bool) -> Sample:
        """Look once.

        Args:
            thorough: whether sizes are read and metrics scraped too.

        """
        told = self._thorough() if thorough else {}
        row = self._connection.execute(_OVERDUE, [CLIENT]).fetchone()
        assert row is not None
        processes = {**self._processes, "postgres": self._world.postgres}
        return Sample(
            at=time.monotonic(),
            rotated=self._world.endpoint.counts().rotations,
            overdue=float(row[0]),
            cpu={name: cpu_seconds([process]) for name, process in processes.items()},
            memory={name: resident_bytes(process) for name, process in self._processes.items()},
            **told,  # type: ignore[arg-type]
        )

    def _thorough(self) -> dict[str, object]:
        sizes = self._connection.execute(_SIZES).fetchone()
        assert sizes is not None
        names = ("heap", "indexes", "rotations", "database", "dead_rows", "updates", "hot_updates", "vacuums")
        settled: dict[float, float] = {}
        late: dict[float, float] = {}
        for address in self._addresses[:-1]:
            text = httpx.get(address, trust_env=False, timeout=30.0).raise_for_status().text
            _add_buckets(text, "evergrant_settle_duration_seconds", settled)
            _add_buckets(text, "evergrant_rotation_lag_seconds", late)
        began = time.monotonic()
        httpx.get(self._addresses[-1], trust_env=False, timeout=30.0).raise_for_status()
        return {
            "sizes": Sizes(**dict(zip(names, map(int, sizes), strict=True))),
            "scrape": time.monotonic() - began,
            "settled": settled,
            "late": late,
        }

    def expired(self) -> int:
        """Count the access tokens that have run out; it reads the whole table."""
        row = self._connection.execute(_EXPIRED).fetchone()
        assert row is not None
        return int(row[0])


def _add_buckets(text: str, name: str, buckets: dict[float, float]) -> None:
    for family in text_string_to_metric_families(text):
        if family.name != name:
            continue
        for sample in family.samples:
            if sample.name == f"{name}_bucket":
                bound = float(sample.labels["le"])
                buckets[bound] = buckets.get(bound, 0.0) + sample.value
