"""The sandbox's Prometheus counters. They live in the default registry, so multiprocess mode works as anywhere."""

from __future__ import annotations

import os
from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

REFRESH_PRESENTED: Final = Counter(
    "evergrant_sandbox_refresh_presented_total", "Refresh requests of an authenticated client.", ["client"]
)
ROTATIONS: Final = Counter(
    "evergrant_sandbox_rotations_total", "Refresh tokens consumed and replaced by another.", ["client"]
)
DOUBLE_SPENDS: Final = Counter(
    "evergrant_sandbox_double_spends_total",
    "Presentations of a consumed refresh token whose answer was delivered.",
    ["client"],
)
FAULTS: Final = Counter("evergrant_sandbox_faults_total", "Misbehaviours committed on order.", ["client", "kind"])


def exposition() -> bytes:
    """Return all metrics of this process, or of all processes that share PROMETHEUS_MULTIPROC_DIR, as text."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
