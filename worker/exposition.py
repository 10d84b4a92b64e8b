"""How metrics are read: one process's own, or those of all that share a folder, in the format that is asked for.

One process serves its own registry. Where several processes of one machine share PROMETHEUS_MULTIPROC_DIR, as under
`evergrant up`, their counters are summed by whichever of them is asked; those of a process that has ended stay in the
sums, so that no counter falls back.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

_SANDBOX: Final = "evergrant_sandbox_"


class _Joined(Collector):
    """What is counted and what was read, as one: a scrape in OpenMetrics has one end."""

    def __init__(self, counted: Collector, read: Iterable[Metric]) -> None:
        self._counted = counted
        self._read = read

    def collect(self) -> Iterable[Metric]:
        return chain(self._counted.collect(), self._read)


def shared_registry(registry: CollectorRegistry) -> CollectorRegistry:
    """Return what a scrape reads: this process's registry, or all that share a multiprocess folder."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return registry
    shared = CollectorRegistry()
    MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
    return shared


def exposition(registry: CollectorRegistry, accept: str, read: Iterable[Metric] = ()) -> tuple[bytes, str]:
    """Return what a scrape is answered with, and its content type.

    Args:
        registry: what this process counts.
        accept: the scraper's Accept header: OpenMetrics, with exemplars, is given to whoever asks for it.
        read: further metrics, read for this scrape.

    """
    encode, content_type = choose_encoder(accept)
    return encode(_Joined(shared_registry(registry), read)), content_type


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
