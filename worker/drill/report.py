"""The figures of a drill as a table for people, and as JSON for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from worker.drill.campaign import CampaignRun
from worker.drill.verdict import Findings
from worker.drill.views import Views


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillResult:
    """All that a drill has to say.

    Attributes:
        seed: repeats its plan.
        run: what the campaign came to.
        views: what the three sides say.
        findings: what that means for the promises.
        exits: processes that ended by themselves while faults were committed, and how all ended when told to.

    """

    seed: int
    run: CampaignRun
    views: Views
    findings: Findings
    exits: Mapping[str, Counter[str]]


def as_table(result: DrillResult) -> list[str]:
    """Return the lines of the table."""
    found, run, workers = result.findings, result.run, result.views.workers
    settled = "not in time" if run.settled_after is None else f"{run.settled_after:.0f} s after the last fault"
    rows: list[tuple[str, object]] = [
        ("seed", result.seed),
        ("rotations", f"{found.rotations} in {run.seconds:.0f} s"),
        ("faults", run.faults.total()),
        ("settled", settled),
        ("", ""),
        ("double spends", found.unexplained),
        ("tokens lost after their answer was read", found.tokens_lost),
        ("false deaths", found.false_deaths),
        ("alive at the provider and not active here", found.left_behind),
        ("secrets told in logs, metrics and configuration", found.secrets_told),
        ("", ""),
        ("given up: reply lost", found.reply_lost),
        ("  of these, answered in full while a worker was killed or stopped", found.reply_lost_delivered),
        ("ended by their owner", found.ended_by_owner),
        ("doubts ended", _listed(workers.doubts_ended)),
        ("leases rescued", workers.leases_rescued),
        ("answers superseded", workers.superseded_tokens),
        ("presented again after a doubt", found.after_doubt),
        ("  of these, after a full answer (the sandbox's double spends)", found.double_spends),
        ("grants", _listed(found.states)),
    ]
    rows += [(f"processes that {what}", _listed(codes)) for what, codes in result.exits.items()]
    width = max(len(name) for name, _value in rows)
    lines = [f"{name.ljust(width)}  {value}".rstrip() for name, value in rows]
    lines += ["", f"{'FAULT'.ljust(24)}{'TIMES':>6}{'RECOVERED':>11}{'MEDIAN':>9}{'WORST':>9}"]
    for kind, times in sorted(run.faults.items()):
        took = run.recoveries.get(kind, [])
        figures = f"{median(took):7.1f} s{max(took):7.1f} s" if took else ""
        lines.append(f"{kind.ljust(24)}{times:>6}{len(took):>11}{figures}")
    lines += ["", *(f"BROKEN  {line}" for line in found.evidence)]
    lines.append("every promise was kept" if found.are_kept else "a promise was broken")
    return lines


def as_json(result: DrillResult) -> dict[str, object]:
    """Return the same figures under stable names."""
    found, run, workers = result.findings, result.run, result.views.workers
    return {
        "seed": result.seed,
        "promises_kept": found.are_kept,
        "rotations": found.rotations,
        "seconds": round(run.seconds, 1),
        "settled_after_seconds": None if run.settled_after is None else round(run.settled_after, 1),
        "faults": dict(sorted(run.faults.items())),
        "double_spends": found.unexplained,
        "tokens_lost": found.tokens_lost,
        "false_deaths": found.false_deaths,
        "alive_and_not_active": found.left_behind,
        "secrets_told": found.secrets_told,
        "given_up_reply_lost": found.reply_lost,
        "given_up_reply_delivered": found.reply_lost_delivered,
        "ended_by_owner": found.ended_by_owner,
        "doubts_ended": dict(workers.doubts_ended),
        "leases_rescued": workers.leases_rescued,
        "answers_superseded": workers.superseded_tokens,
        "presented_again_after_doubt": found.after_doubt,
        "sandbox_double_spends": found.double_spends,
        "grants": found.states,
        "processes": {what: dict(codes) for what, codes in result.exits.items()},
        "recovery_seconds": {
            kind: {"times": len(took), "median": round(median(took), 1), "worst": round(max(took), 1)}
            for kind, took in sorted(run.recoveries.items())
        },
        "evidence": found.evidence,
    }


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"
