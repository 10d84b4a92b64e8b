"""What was presented and what became of it, kept beside the database: from it follows what the database must say.

The ledger knows nothing of leases in SQL or of generations: it counts claims, consents and answers as they happen, and
says beforehand whether a settlement may be stored and whether a refresh token may be presented once more.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from worker.domain.facts import TokenFacts
from worker.domain.grant import ClaimedGrant, GrantState
from worker.domain.outcome import Dead, InDoubt, Misconfigured, Outcome, Reason, Rotated, Throttled, Unavailable
from worker.domain.secret import Secret
from worker.domain.settlement import EnterDoubt, Settlement, StoreTokens
from worker.storage.settle_queue import Settled

_WRITTEN: Final = (Settled.STORED, Settled.SUSPECTED)


def digest(token: Secret) -> str:
    """Return the name under which the ledger knows a refresh token."""
    return hashlib.sha256(token.reveal().encode()).hexdigest()[:16]


@dataclass(slots=True, kw_only=True)
class Fate:
    """What became of one refresh token's presentations."""

    refused: int = 0  #: turned away before it was looked at
    struck: int = 0  #: answered with `invalid_grant`
    unread: int = 0  #: may have been spent, and nobody has read the answer
    read: int = 0  #: an answer with a new refresh token was read
    kept: int = 0  #: an answer was read that leaves the refresh token as it is
    replaced: bool = False  #: the new refresh token is stored

    @property
    def doubtful(self) -> int:
        """Return how many presentations, for all that the database can know, were never answered."""
        return self.unread + self.read


@dataclass(slots=True, kw_only=True)
class Ledger:
    """The presentations of all grants of one run."""

    fates: dict[str, Fate] = field(default_factory=lambda: defaultdict(Fate))
    current: dict[UUID, str] = field(default_factory=dict)  #: the refresh token that a grant must hold
    last_lease: dict[UUID, UUID] = field(default_factory=dict)
    consents: Counter[UUID] = field(default_factory=Counter)
    resumes: Counter[UUID] = field(default_factory=Counter)
    rescues: Counter[UUID] = field(default_factory=Counter)  #: by grant, since its last consent
    ended: set[UUID] = field(default_factory=set)  #: leases that were settled
    rescued: set[UUID] = field(default_factory=set)  #: leases that were ended for their workers

    def claimed(self, grant: ClaimedGrant) -> None:
        """Note a claim: it supersedes every lease on the grant before it."""
        grant_id = grant.lease.grant_id
        assert digest(grant.refresh_token) == self.current[grant_id], "the claim brought another refresh token"
        self.last_lease[grant_id] = grant.lease.lease_id

    def consented(self, grant_id: UUID, refresh_token: Secret) -> None:
        """Note a consent: whatever was under way for the grant is superseded."""
        self.current[grant_id] = digest(refresh_token)
        self.consents[grant_id] += 1
        self.last_lease.pop(grant_id, None)
        self.resumes[grant_id] = self.rescues[grant_id] = 0

    def may_present(self, grant: ClaimedGrant, facts: TokenFacts) -> None:
        """Fail if presenting this grant's refresh token breaks the provider's policy."""
        fate = self.fates[digest(grant.refresh_token)]
        # Only a late answer can be stored between a claim and its request: then it was claimed in doubt, to be probed.
        assert grant.is_doubtful or not fate.replaced, f"presented although its successor is stored: {fate}"
        if fate.doubtful == 0 or facts.is_resend_safe:
            return
        assert grant.is_doubtful, f"presented again as {grant.state}, and nothing of a doubt: {fate}"

    def presented(self, grant: ClaimedGrant, outcome: Outcome, facts: TokenFacts) -> None:
        """Note what came of a presentation."""
        fate = self.fates[digest(grant.refresh_token)]
        match outcome:
            case Rotated(tokens=tokens) if tokens.refresh_token is None:
                fate.kept += 1
                fate.unread = 0  # accepted as it is: whatever was not read had not spent it
            case Rotated():
                fate.read += 1
            case Dead():
                fate.struck += 1
            case Misconfigured() | Throttled():
                fate.refused += 1
            case Unavailable(sent=True) if facts.is_resend_safe:
                fate.unread += 1
            case Unavailable():
                fate.refused += 1
            case InDoubt():
                fate.unread += 1

    def must_store(
        self, grant: ClaimedGrant, consents_at_claim: int, settlement: Settlement, *, state: str, reason: str | None
    ) -> bool:
        """Say whether a settlement is still wanted; otherwise it must be superseded.

        Args:
            grant: as it was claimed.
            consents_at_claim: how often its owner had consented then.
            settlement: what is to be stored.
            state: where the grant stands now.
            reason: and why.

        """
        lease = grant.lease
        if self.consents[lease.grant_id] != consents_at_claim:
            return False
        ours = self.last_lease.get(lease.grant_id) == lease.lease_id and lease.lease_id not in self.ended
        match settlement:
            case StoreTokens(tokens=tokens):
                lacking = state == GrantState.IN_DOUBT or reason == Reason.ROTATION_REPLY_LOST
                newest = self.current[lease.grant_id] == digest(grant.refresh_token)
                return ours or (tokens.refresh_token is not None and newest and lacking)
            case EnterDoubt():
                return ours and lease.lease_id not in self.rescued
            case _:
                return ours

    def settled(self, grant: ClaimedGrant, settlement: Settlement, settled: Settled) -> None:
        """Note what became of a settlement."""
        if settled not in _WRITTEN:
            return
        self.ended |= {grant.lease.lease_id, self.last_lease.get(grant.lease.grant_id, grant.lease.lease_id)}
        if isinstance(settlement, StoreTokens) and settlement.tokens.refresh_token is not None:
            self.fates[digest(grant.refresh_token)].replaced = True
            self.current[grant.lease.grant_id] = digest(settlement.tokens.refresh_token)
            self.rescues[grant.lease.grant_id] = 0

    def rescued_lease(self, grant_id: UUID, lease_id: UUID) -> None:
        """Note a lease that was ended for its worker."""
        self.rescued.add(lease_id)
        self.rescues[grant_id] += 1
