"""The fault campaign: a short one, its plan, and a verdict that does notice a broken promise."""

from __future__ import annotations

import json
import os
import random  # noqa: TID251 -- the seeded chance that a plan is made of
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.drill.campaign import CampaignRun
from worker.drill.clients import CLIENTS
from worker.drill.plan import MOST_REVOKED, FaultKind, make_plan
from worker.drill.verdict import judge
from worker.drill.views import OurGrant, SandboxCounts, TheirFamily, TheirToken, Views, WorkerCounts

ROOT = Path(__file__).parents[2]
WITHIN = 400.0  # seconds; a short drill takes about one minute on an idle machine
SEED = 20261123
DRILL = (sys.executable, "-m", "worker.cli", "drill")

FIRST = TheirToken(sha256="1" * 64, presented=1, consumed_at=1000.0, delivery="delivered")
SECOND = TheirToken(sha256="2" * 64, presented=0, consumed_at=None, delivery=None)
FAMILY = TheirFamily(client="c", account="a", is_alive=True, revoked_because=None, tokens=(FIRST, SECOND))
GRANT = OurGrant(
    client="c", subject="a", state="active", state_reason=None, generation=1, token_sha256=SECOND.sha256, doubts=()
)
HEALTHY = Views(
    rotations=1,
    ours=(GRANT,),
    theirs=(FAMILY,),
    sandbox={"c": SandboxCounts(is_resend_safe=False, rotations=1, double_spends=0, replays_after_withheld_answer=0)},
    workers=WorkerCounts(tokens_lost=0, superseded_tokens=0, leases_rescued=0, doubts_ended={}),
    told=(),
)
DONE = CampaignRun(completed=True, settled_after=1.0)


@pytest.mark.slow
def test_a_short_drill_keeps_every_promise(tmp_path: Path) -> None:
    """Twenty faults over three hundred rotations: nothing spent twice, nothing lost, nobody falsely dead or left."""
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("EVERGRANT_", "PROMETHEUS_"))}
    ended = subprocess.run(
        [*DRILL, "--rotations", "300", "--faults", "20", "--seed", str(SEED), "--json"],
        cwd=tmp_path,
        env={**settings, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
        text=True,
        timeout=WITHIN,
    )
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    said: dict[str, Any] = json.loads(ended.stdout)
    promises = ("double_spends", "tokens_lost", "false_deaths", "alive_and_not_active", "secrets_told")
    assert {name: said[name] for name in promises} == dict.fromkeys(promises, 0)
    assert said["rotations"] >= 300
    assert sum(said["faults"].values()) == 20
    assert list(tmp_path.iterdir()) == [], "nothing of it stays"


@given(faults=st.integers(0, 400), rotations=st.integers(1, 10_000), seed=st.integers())
def test_a_seed_makes_one_plan(faults: int, rotations: int, seed: int) -> None:
    """The same seed makes the same plan: so many faults, in order, within the rotations, and few enough revocations."""
    first, second = (
        make_plan(faults=faults, rotations=rotations, clients=len(CLIENTS), draw=random.Random(seed).random)
        for _ in range(2)
    )
    assert first == second
    assert [fault.number for fault in first] == list(range(1, faults + 1))
    instants = [fault.at_rotation for fault in first]
    assert instants == sorted(instants)
    assert all(0 <= instant <= rotations for instant in instants)
    revoked = Counter(fault.client for fault in first if fault.kind is FaultKind.CONSENT_REVOKED)
    assert all(count <= MOST_REVOKED for count in revoked.values())
    if faults >= len(FaultKind):
        assert {fault.kind for fault in first} == set(FaultKind)


def test_a_healthy_world_is_in_order() -> None:
    """The newest token stored, the old one presented once, everything settled: every promise is kept."""
    assert judge(HEALTHY, DONE).are_kept


def _with(grant: OurGrant = GRANT, family: TheirFamily = FAMILY, double_spends: int = 0) -> Views:
    return replace(
        HEALTHY,
        ours=(grant,),
        theirs=(family,),
        sandbox={"c": replace(HEALTHY.sandbox["c"], double_spends=double_spends)},
    )


DEAD = replace(GRANT, state="reconsent_required", state_reason="invalid_grant")
GIVEN_UP = replace(DEAD, state_reason="rotation_reply_lost", generation=0, token_sha256=FIRST.sha256)
TWICE = replace(FAMILY, tokens=(replace(FIRST, presented=2), SECOND))


@pytest.mark.parametrize(
    ("views", "figure"),
    [
        (_with(grant=replace(GRANT, token_sha256=FIRST.sha256)), "tokens_lost"),
        (_with(grant=DEAD), "false_deaths"),
        (_with(grant=replace(GRANT, state="suspect")), "left_behind"),
        (_with(grant=replace(GRANT, subject="another")), "left_behind"),
        (_with(grant=replace(GIVEN_UP, token_sha256=SECOND.sha256)), "left_behind"),
        (_with(family=TWICE, double_spends=1), "unexplained"),
        (_with(family=TWICE, grant=replace(GRANT, doubts=((0, 999.0),)), double_spends=1), "unexplained"),
        (_with(grant=GIVEN_UP), "tokens_lost"),
        (replace(HEALTHY, workers=replace(HEALTHY.workers, tokens_lost=1)), "tokens_lost"),
        (replace(HEALTHY, told=("worker-1.log, line 3: a refresh token",)), "secrets_told"),
    ],
)
def test_a_broken_promise_is_noticed(views: Views, figure: str) -> None:
    """Each way to break a promise shows in its figure, with evidence."""
    found = judge(views, DONE)
    assert getattr(found, figure) == 1
    assert found.evidence
    assert not found.are_kept


@pytest.mark.parametrize("run", [CampaignRun(completed=True), CampaignRun(settled_after=1.0)])
def test_an_unfinished_campaign_keeps_no_promise(run: CampaignRun) -> None:
    """A campaign that stood still or never settled is no success, whatever the figures are."""
    assert not judge(HEALTHY, run).are_kept


@pytest.mark.parametrize(
    ("views", "figure"),
    [
        (_with(grant=GIVEN_UP), "reply_lost_delivered"),
        (_with(grant=GIVEN_UP, family=replace(FAMILY, tokens=(replace(FIRST, delivery="lost"), SECOND))), "reply_lost"),
        (_with(grant=DEAD, family=replace(FAMILY, is_alive=False)), "ended_by_owner"),
        (_with(family=TWICE, grant=replace(GRANT, doubts=((0, 1001.0),)), double_spends=1), "after_doubt"),
    ],
)
def test_what_cannot_be_promised_is_counted_and_not_blamed(views: Views, figure: str) -> None:
    """A reply that nobody read, an owner's own end and a presentation that a doubt allows break nothing."""
    found = judge(views, replace(DONE, interruptions=[(1000.5, 1000.6)]))
    assert getattr(found, figure) == 1
    assert found.are_kept
