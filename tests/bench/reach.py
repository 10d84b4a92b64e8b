"""What the bench must show: each measure beside its limit, and whether it is kept. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from tests.bench.findings import Table
from tests.bench.names import A_TASK_EACH, BARE_LOOP, EVERGRANT, MIDDLE, SHARED_CLIENT, TAIL

Facts = Mapping[str, float]


class Verdict(Enum):
    """What became of one line."""

    PASS = "pass"
    FAIL = "FAIL"
    NOT_MEASURED = "not measured"


class Side(Enum):
    """On which side of the limit the measure must stay."""

    AT_LEAST = "at least"
    AT_MOST = "at most"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """One line: what is measured, and its limit.

    Attributes:
        measure: in words.
        value: reads it off the facts; raises KeyError where a fact is missing.
        side: of the limit on which it must be.
        limit: that it must keep.
        unit: behind both numbers.
        digits: after the point.

    """

    measure: str
    value: Callable[[Facts], float]
    side: Side
    limit: float
    unit: str = ""
    digits: int = 2

    def judge(self, facts: Facts) -> tuple[float | None, Verdict]:
        """Return the measure's value, None where a fact is missing, and the verdict."""
        try:
            value = self.value(facts)
        except KeyError:
            return None, Verdict.NOT_MEASURED
        kept = value >= self.limit if self.side is Side.AT_LEAST else value <= self.limit
        return value, Verdict.PASS if kept else Verdict.FAIL


def _fact(name: str) -> Callable[[Facts], float]:
    def value(facts: Facts) -> float:
        return facts[name]

    return value


def _ratio(above: str, below: str) -> Callable[[Facts], float]:
    def value(facts: Facts) -> float:
        if not facts[below]:
            raise KeyError(below)  # nothing was measured there
        return facts[above] / facts[below]

    return value


def _total(kind: str) -> Callable[[Facts], float]:
    def value(facts: Facts) -> float:
        found = [number for name, number in facts.items() if name.startswith(f"{kind}:")]
        if not found:
            raise KeyError(kind)
        return sum(found)

    return value


REACH: Final = (
    Reach(
        measure="grants/s against a task per grant with 8 processes, 50 ms",
        value=_ratio(f"rate:{EVERGRANT}:{MIDDLE}", f"rate:{A_TASK_EACH}:{MIDDLE}"),
        side=Side.AT_LEAST,
        limit=35,
        unit=" x",
        digits=1,
    ),
    Reach(
        measure="grants/s against the same with a shared client, 50 ms",
        value=_ratio(f"rate:{EVERGRANT}:{MIDDLE}", f"rate:{SHARED_CLIENT}:{MIDDLE}"),
        side=Side.AT_LEAST,
        limit=12,
        unit=" x",
        digits=1,
    ),
    Reach(
        measure="grants/s against the bare loop, 50 ms",
        value=_ratio(f"rate:{EVERGRANT}:{MIDDLE}", f"rate:{BARE_LOOP}:{MIDDLE}"),
        side=Side.AT_LEAST,
        limit=0.75,
        unit=" x",
    ),
    Reach(
        measure="grants/s against the bare loop, heavy tail",
        value=_ratio(f"rate:{EVERGRANT}:{TAIL}", f"rate:{BARE_LOOP}:{TAIL}"),
        side=Side.AT_LEAST,
        limit=0.75,
        unit=" x",
    ),
    Reach(
        measure="CPU per grant against the bare loop, 50 ms",
        value=_ratio(f"cpu_ms:{EVERGRANT}:{MIDDLE}", f"cpu_ms:{BARE_LOOP}:{MIDDLE}"),
        side=Side.AT_MOST,
        limit=1.6,
        unit=" x",
    ),
    Reach(
        measure="claim of 1,000 at 5 M rows against 10 k rows",
        value=_fact("claim_ratio:5000000"),
        side=Side.AT_MOST,
        limit=1.3,
        unit=" x",
    ),
    Reach(
        measure="memory of one worker process with 200 in flight",
        value=_fact("worker_megabytes"),
        side=Side.AT_MOST,
        limit=150,
        unit=" MB",
        digits=0,
    ),
    Reach(
        measure="answer to commit, 99 of 100, a process that has time",
        value=_fact("window_steady_p99_ms"),
        side=Side.AT_MOST,
        limit=20,
        unit=" ms",
        digits=1,
    ),
    Reach(
        measure="answer to commit, 99 of 100, as fast as it can",
        value=_fact("window_saturated_p99_ms"),
        side=Side.AT_MOST,
        limit=20,
        unit=" ms",
        digits=1,
    ),
    Reach(
        measure="metrics and logs, of the CPU time per grant",
        value=_fact("telling_share_percent"),
        side=Side.AT_MOST,
        limit=5,
        unit=" %",
        digits=1,
    ),
    Reach(
        measure="steady state: oldest overdue",
        value=_fact("steady_overdue"),
        side=Side.AT_MOST,
        limit=30,
        unit=" s",
        digits=1,
    ),
    Reach(
        measure="steady state: access tokens that ran out",
        value=_fact("steady_expired"),
        side=Side.AT_MOST,
        limit=0,
        digits=0,
    ),
    Reach(
        measure="steady state: memory, late against early",
        value=_fact("steady_memory_growth"),
        side=Side.AT_MOST,
        limit=1.1,
        unit=" x",
    ),
    Reach(
        measure="steady state: table with indexes, end against middle",
        value=_fact("steady_table_growth"),
        side=Side.AT_MOST,
        limit=1.05,
        unit=" x",
        digits=3,
    ),
    Reach(
        measure="a stored access token at one web process, half of the answers",
        value=_fact("access_token_hit_p50_ms"),
        side=Side.AT_MOST,
        limit=5,
        unit=" ms",
        digits=1,
    ),
    Reach(
        measure="the console's slowest page with a million grants, half of the answers",
        value=_fact("console_ms"),
        side=Side.AT_MOST,
        limit=200,
        unit=" ms",
        digits=0,
    ),
    Reach(measure="double spends", value=_total("double_spends"), side=Side.AT_MOST, limit=0, digits=0),
    Reach(measure="lost tokens", value=_total("lost"), side=Side.AT_MOST, limit=0, digits=0),
)


def judged(facts: Facts, lines: Sequence[Reach] = REACH) -> Table:
    """Return the table of all measures with their verdicts."""
    rows = []
    for line in lines:
        value, verdict = line.judge(facts)
        shown = "" if value is None else f"{value:,.{line.digits}f}{line.unit}"
        rows.append((line.measure, f"{line.side.value} {line.limit:g}{line.unit}", shown, verdict.value))
    return Table(title="Reach", headings=("measure", "limit", "measured", ""), rows=tuple(rows))


def failures(facts: Facts, lines: Sequence[Reach] = REACH) -> list[str]:
    """Return the measures that miss their limit."""
    return [line.measure for line in lines if line.judge(facts)[1] is Verdict.FAIL]
