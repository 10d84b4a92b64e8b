"""The bench's limits: each can be kept, missed, and left unmeasured."""

from __future__ import annotations

from tests.bench.contenders.contender import Measured
from tests.bench.parts import refresh
from tests.bench.reach import REACH, Reach, Side, Verdict, failures, judged

AT_LEAST = Reach(measure="rate", value=lambda facts: facts["rate"], side=Side.AT_LEAST, limit=10, unit="/s", digits=0)
AT_MOST = Reach(measure="lost", value=lambda facts: facts["lost"], side=Side.AT_MOST, limit=0, digits=0)

KEPT = {
    "rate:evergrant:50 ms": 2_000.0,
    "rate:a task per grant, httpx.post:50 ms": 40.0,
    "rate:the same, shared client:50 ms": 130.0,
    "rate:bare loop:50 ms": 2_400.0,
    "rate:evergrant:50 ms, 1 % 2 s": 1_000.0,
    "rate:bare loop:50 ms, 1 % 2 s": 1_200.0,
    "cpu_ms:evergrant:50 ms": 0.7,
    "cpu_ms:bare loop:50 ms": 0.5,
    "claim_ratio:5000000": 1.1,
    "worker_megabytes": 120.0,
    "window_steady_p99_ms": 12.0,
    "window_saturated_p99_ms": 15.0,
    "telling_share_percent": 4.0,
    "steady_overdue": 2.0,
    "steady_expired": 0.0,
    "steady_memory_growth": 1.01,
    "steady_table_growth": 1.0,
    "access_token_hit_p50_ms": 2.0,
    "console_ms": 40.0,
    "double_spends:refresh": 0.0,
    "lost:refresh": 0.0,
}


def test_a_limit_is_kept_on_its_own_side() -> None:
    """The limit itself is kept; beyond it, on the wrong side, the line fails."""
    assert AT_LEAST.judge({"rate": 10.0}) == (10.0, Verdict.PASS)
    assert AT_LEAST.judge({"rate": 9.9}) == (9.9, Verdict.FAIL)
    assert AT_MOST.judge({"lost": 0.0}) == (0.0, Verdict.PASS)
    assert AT_MOST.judge({"lost": 1.0}) == (1.0, Verdict.FAIL)


def test_what_was_not_measured_is_neither_kept_nor_missed() -> None:
    """A part that was left out says so in the table, and fails nothing."""
    assert AT_LEAST.judge({}) == (None, Verdict.NOT_MEASURED)
    assert failures({}, (AT_LEAST, AT_MOST)) == []
    [row] = judged({}, (AT_LEAST,)).rows
    assert row == ("rate", "at least 10/s", "", "not measured")


def test_every_line_of_the_reach_can_be_missed() -> None:
    """With good figures all of it passes; with each figure turned around, every line fails."""
    assert [line.judge(KEPT)[1] for line in REACH] == [Verdict.PASS] * len(REACH)
    good = ("rate:evergrant", "cpu_ms:bare loop")
    turned = {name: (0.1 if name.startswith(good) else 10_000.0) for name in KEPT}
    assert failures(turned) == [line.measure for line in REACH]


def test_a_lost_token_in_any_part_fails() -> None:
    """Losses and double spends are summed over all parts."""
    assert failures({**KEPT, "lost:steady": 1.0}) == ["lost tokens"]
    assert failures({**KEPT, "double_spends:scaling": 2.0}) == ["double spends"]


def test_the_comparison_measures_what_it_is_judged_by() -> None:
    """Every line that speaks of grants a second or CPU finds its figures where the comparison leaves them."""
    runs = [
        Measured(
            contender=contender.name,
            cell=cell,
            grants=100,
            seconds=1.0,
            rate=100.0,
            cpu_ms=0.5,
            database_cpu_ms=0.1,
            endpoint_cpu_ms=0.02,
            double_spends=0,
            lost=0,
        )
        for contender in refresh.CONTENDERS
        for cell in refresh.COLUMNS
    ]
    found = [
        line.judge(refresh.findings(runs).facts)[1] for line in REACH if line.measure.startswith(("grants", "CPU"))
    ]
    assert found == [Verdict.FAIL, Verdict.FAIL, Verdict.PASS, Verdict.PASS, Verdict.PASS]
