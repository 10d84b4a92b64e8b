"""Sums up the samples of a steady state. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Final

from tests.bench.endpoint_process import EndpointCounts
from tests.bench.findings import Findings, Table
from tests.bench.population import Lost
from tests.bench.steady_watch import Sample, Sizes

_MEGA: Final = 10**6


def findings(samples: Sequence[Sample], demanded: float, expired: int, lost: Lost, counts: EndpointCounts) -> Findings:
    """Return what a steady state came to.

    Args:
        samples: in the order they were taken; the first and the last are thorough.
        demanded: rotations a second that the grants ask for.
        expired: access tokens that had run out at the end.
        lost: what was lost.
        counts: the endpoint's.

    """
    sizes = [(sample.at, sample.sizes) for sample in samples if sample.sizes is not None]
    first, last = samples[0], samples[-1]
    overdue = [sample.overdue for sample in samples]
    memory = {name: _growth([sample.memory[name] for sample in samples]) for name in first.memory}
    table = _table_growth([its for _, its in sizes])
    facts = {
        "steady_rate": (last.rotated - first.rotated) / (last.at - first.at),
        "steady_overdue": max(overdue),
        "steady_expired": float(expired),
        "steady_memory_growth": max(memory.values()),
        "steady_table_growth": table,
        "double_spends:steady": float(counts.double_spends),
        "lost:steady": float(lost.lost + lost.in_doubt),
    }
    return Findings(
        part="steady",
        tables=(
            _what_it_held(samples, demanded, facts),
            _what_it_took(samples, memory),
            _what_it_left(sizes[0][1], sizes[-1][1], table),
        ),
        facts=facts,
        data={"samples": [asdict(sample) for sample in samples], "began": first.at},
    )


def _what_it_held(samples: Sequence[Sample], demanded: float, facts: Mapping[str, float]) -> Table:
    last = samples[-1]
    settled, late = _since(samples, "settled"), _since(samples, "late")
    scrapes = [1000 * sample.scrape for sample in samples if sample.scrape is not None]
    minutes = (last.at - samples[0].at) / 60
    rows = (
        ("rotations a second", f"{facts['steady_rate']:,.0f} of {demanded:,.0f} that fell due"),
        ("oldest overdue at any second", f"{facts['steady_overdue']:.1f} s"),
        ("began after it was due, 99 of 100", f"{quantile(late, 0.99):.2f} s"),
        ("answer to commit, median and 99 of 100", f"{_ms(settled, 0.5)}, {_ms(settled, 0.99)}"),
        ("access tokens that ran out", f"{facts['steady_expired']:,.0f}"),
        ("metrics with gauges, median and worst", f"{statistics.median(scrapes):,.0f} ms, {max(scrapes):,.0f} ms"),
        ("spent twice, lost", f"{facts['double_spends:steady']:.0f}, {facts['lost:steady']:.0f}"),
    )
    return Table(title=f"Steady state, held for {minutes:.1f} minutes", headings=("", ""), rows=rows)


def _what_it_took(samples: Sequence[Sample], growth: Mapping[str, float]) -> Table:
    first, last = samples[0], samples[-1]
    rotated, seconds = max(last.rotated - first.rotated, 1), last.at - first.at

    def row(name: str) -> tuple[str, ...]:
        cpu = last.cpu[name] - first.cpu[name]
        memory = f"{max(sample.memory[name] for sample in samples) / _MEGA:.0f} MB" if name in growth else ""
        grown = f"{growth[name]:.2f} x" if name in growth else ""
        return (name, f"{100 * cpu / seconds:.0f} %", f"{1000 * cpu / rotated:.2f}", memory, grown)

    return Table(
        title="What it took",
        headings=("process", "of one core", "CPU ms a rotation", "memory, most", "memory, late against early"),
        rows=tuple(row(name) for name in last.cpu),
    )


def _what_it_left(first: Sizes, last: Sizes, growth: float) -> Table:
    updates = max(last.updates - first.updates, 1)
    hot = 100 * (last.hot_updates - first.hot_updates) / updates

    def row(what: str, before: int, after: int) -> tuple[str, ...]:
        return (what, f"{before / _MEGA:,.0f} MB", f"{after / _MEGA:,.0f} MB")

    return Table(
        title="What it left in the database",
        headings=("", "at the start", "at the end"),
        rows=(
            row("table grants", first.heap, last.heap),
            row("its indexes", first.indexes, last.indexes),
            row("table rotations, with indexes", first.rotations, last.rotations),
            row("the whole database", first.database, last.database),
            ("dead rows in grants", f"{first.dead_rows:,}", f"{last.dead_rows:,}"),
        ),
        notes=(
            f"{updates:,} updates of grants, {hot:.0f} % of them on their own page (HOT).",
            f"{last.vacuums - first.vacuums} vacuums by autovacuum.",
            f"Grants with indexes, at the end against the middle: {growth:.3f} x.",
        ),
    )


def quantile(buckets: Mapping[float, float], share: float) -> float:
    """Return a quantile of a Prometheus histogram, drawn straight within its bucket as `histogram_quantile` does.

    Args:
        buckets: how many observations are at most as large as each bound, which ends with infinity.
        share: between 0 and 1.

    """
    bounds = sorted(buckets)
    wanted = share * buckets[bounds[-1]] if bounds else 0.0
    below = under = 0.0
    for bound in bounds:
        if buckets[bound] >= wanted and buckets[bound] > under:
            if bound == float("inf"):
                return below
            return below + (bound - below) * (wanted - under) / (buckets[bound] - under)
        below, under = bound, buckets[bound]
    return below


def _since(samples: Sequence[Sample], kind: str) -> dict[float, float]:
    """Return what a histogram counted between the first sample and the last."""
    before: Mapping[float, float] = getattr(samples[0], kind) or {}
    after: Mapping[float, float] = getattr(samples[-1], kind) or {}
    return {bound: count - before.get(bound, 0.0) for bound, count in after.items()}


def _ms(buckets: Mapping[float, float], share: float) -> str:
    return f"{1000 * quantile(buckets, share):.1f} ms"


def _growth(values: Sequence[int]) -> float:
    """Compare the last fifth with the second one: the first is warming up."""
    fifth = max(len(values) // 5, 1)
    return statistics.mean(values[-fifth:]) / statistics.mean(values[fifth : 2 * fifth] or values[:fifth])


def _table_growth(sizes: Sequence[Sizes]) -> float:
    """Compare table and indexes at the end with the middle: by then, vacuum must have made room for what comes."""
    middle, last = sizes[len(sizes) // 2], sizes[-1]
    return (last.heap + last.indexes) / (middle.heap + middle.indexes)
