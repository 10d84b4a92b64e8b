"""What the views say about the promises: pure, from figures to promises kept or broken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from worker.domain.grant import GrantState
from worker.domain.outcome import Reason
from worker.drill.campaign import CampaignRun
from worker.drill.views import OurGrant, SandboxCounts, TheirFamily, TheirToken, Views

_DELIVERED: Final = "delivered"
#: Seconds from a token's consumption until its successor is stored, at most: the slow tail of answers, and a commit.
_ON_ITS_WAY: Final = 1.5


@dataclass(slots=True, kw_only=True)
class Findings:
    """The figures of a drill, and evidence for each broken promise.

    Attributes:
        rotations: stored by us.
        double_spends: as the sandbox counts them: a consumed token came again, its answer delivered or on its way.
        after_doubt: as many presentations of a consumed token as were owed to a doubt that is on record.
        unexplained: double spends that no doubt explains.
        tokens_lost: answers that were read and whose token is gone.
        false_deaths: grants that need their owner though the provider holds them and nothing was in doubt.
        left_behind: grants that the provider holds and that are not active here.
        secrets_told: places in logs, metrics and configuration where a token, a key or a password stands.
        reply_lost: grants given up because the answer with their new token was never read: nobody can promise those.
        reply_lost_delivered: those of them whose answer the sandbox had handed over in full, while a worker was killed
            or stopped. Handed over while none was, it counts as lost.
        ended_by_owner: grants whose consent was revoked.
        evidence: one line for each broken promise, without any secret.

    """

    rotations: int = 0
    double_spends: int = 0
    after_doubt: int = 0
    unexplained: int = 0
    tokens_lost: int = 0
    false_deaths: int = 0
    left_behind: int = 0
    secrets_told: int = 0
    reply_lost: int = 0
    reply_lost_delivered: int = 0
    ended_by_owner: int = 0
    states: dict[str, int] = field(default_factory=dict)
    evidence: list[str] = field(default_factory=list)

    @property
    def are_kept(self) -> bool:
        """Whether every promise was kept."""
        counted = (self.unexplained, self.tokens_lost, self.false_deaths, self.left_behind, self.secrets_told)
        return not (self.evidence or any(counted))


def judge(views: Views, run: CampaignRun) -> Findings:
    """Compare what is promised with what the views say.

    Args:
        views: read when everything had ended.
        run: whether the campaign was completed and has settled.

    """
    found = Findings(rotations=views.rotations)
    ours = {(grant.client, grant.subject): grant for grant in views.ours}
    for grant in views.ours:
        found.states[grant.state] = found.states.get(grant.state, 0) + 1
    for family in views.theirs:
        _judge_grant(found, family, ours.get((family.client, family.account)), run)
    found.tokens_lost += views.workers.tokens_lost
    if views.workers.tokens_lost:
        found.evidence.append(f"workers counted {views.workers.tokens_lost} tokens lost after their answer was read")
    _judge_spends(found, views, ours)
    found.secrets_told = len(views.told)
    found.evidence += [f"told: {place}" for place in views.told]
    if not run.completed:
        found.evidence.append("the campaign did not come to its end: rotations had stopped, or a fault was not over")
    if run.settled_after is None:
        found.evidence.append(f"not settled in time: {run.unsettled}")
    return found


def _judge_grant(found: Findings, family: TheirFamily, grant: OurGrant | None, run: CampaignRun) -> None:
    who = f"{family.client} {family.account}"
    if grant is None:
        if family.is_alive:
            found.left_behind += 1
            found.evidence.append(f"{who}: alive at the provider and unknown here")
        return
    newest = family.tokens[-1]
    if grant.state == GrantState.ACTIVE:
        if family.is_alive and grant.token_sha256 != newest.sha256:
            found.tokens_lost += 1
            found.evidence.append(f"{who}: active here with a token that is not the provider's newest")
        return
    stored = next((token for token in family.tokens if token.sha256 == grant.token_sha256), None)
    if _is_reply_lost(grant, family, stored):
        _judge_lost_reply(found, who, stored, run)
        return
    if not family.is_alive:
        found.ended_by_owner += 1
        return
    if grant.state == GrantState.RECONSENT_REQUIRED and grant.state_reason != Reason.ROTATION_REPLY_LOST:
        found.false_deaths += 1
    found.left_behind += 1
    why = f"{grant.state}, {grant.state_reason}, generation {grant.generation}, {_fate(stored)}, doubts {grant.doubts}"
    found.evidence.append(f"{who}: alive at the provider, here {why}")


def _judge_lost_reply(found: Findings, who: str, stored: TheirToken | None, run: CampaignRun) -> None:
    """Tell a reply that nobody could read from one that a healthy worker was handed and lost."""
    if stored is None or stored.consumed_at is None or stored.delivery != _DELIVERED:
        found.reply_lost += 1
    elif any(since < stored.consumed_at + _ON_ITS_WAY and stored.consumed_at < to for since, to in run.interruptions):
        found.reply_lost += 1
        found.reply_lost_delivered += 1
    else:
        found.tokens_lost += 1
        found.evidence.append(
            f"{who}: given up, its answer delivered while no worker was killed or stopped: {_fate(stored)}"
        )


def _is_reply_lost(grant: OurGrant, family: TheirFamily, stored: TheirToken | None) -> bool:
    if grant.state_reason != Reason.ROTATION_REPLY_LOST:
        return False
    is_consumed = stored is not None and stored.consumed_at is not None
    return is_consumed or not family.is_alive


def _fate(token: TheirToken | None) -> str:
    if token is None:
        return "stored token unknown there"
    return f"stored token presented {token.presented} times, consumed at {token.consumed_at}, answer {token.delivery}"


def _judge_spends(found: Findings, views: Views, ours: Mapping[tuple[str, str], OurGrant]) -> None:
    for client, counts in views.sandbox.items():
        _judge_client_spends(found, [its for its in views.theirs if its.client == client], counts, ours)


def _judge_client_spends(
    found: Findings, families: Sequence[TheirFamily], counts: SandboxCounts, ours: Mapping[tuple[str, str], OurGrant]
) -> None:
    """Compare presentations of consumed tokens with the doubts that allow them, one for each doubt on record."""
    allowed = 0
    doubtless: list[str] = []
    for family in families:
        grant = ours.get((family.client, family.account))
        for generation, token in enumerate(family.tokens):
            if token.consumed_at is None or token.presented < 2:  # noqa: PLR2004 -- twice is once too often
                continue
            doubts = _doubts_after(grant, generation, token.consumed_at)
            allowed += min(token.presented - 1, doubts)
            if token.presented - 1 > doubts:
                doubtless.append(f"{family.client} {family.account} generation {generation}: {_fate(token)}")
    # Where facts make every repeat safe, one that follows a 5xx needs no doubt; a double spend still does.
    withheld = 0 if counts.is_resend_safe else counts.replays_after_withheld_answer
    unexplained = max(0, min(counts.double_spends + withheld - allowed, counts.double_spends))
    found.after_doubt += allowed
    found.double_spends += counts.double_spends
    found.unexplained += unexplained
    if unexplained:
        found.evidence.append(f"{unexplained} double spends without a doubt; among {'; '.join(doubtless)}")


def _doubts_after(grant: OurGrant | None, generation: int, consumed_at: float) -> int:
    if grant is None:
        return 0
    return sum(doubted == generation and at > consumed_at for doubted, at in grant.doubts)
