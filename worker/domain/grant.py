"""A grant as the rotation sees it: claimed, with the record that its refresh token is about to be spent.

active ──► in_doubt ──► active
  │  ▲          └─────► reconsent_required ──► active (consent)
  │  └── (strikes reached) ─► reconsent_required
  ├──► paused ──► active          (operator)
  └──► revoked                    (operator)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from worker.domain.secret import Secret


class GrantState(StrEnum):
    """Where a grant stands. Each change is one guarded UPDATE and leaves an event."""

    ACTIVE = "active"  #: kept alive
    IN_DOUBT = "in_doubt"  #: its refresh token was presented and no answer was read
    SUSPECT = "suspect"  #: would be dead, but abnormally many died at once (brake)
    RECONSENT_REQUIRED = "reconsent_required"  #: only its owner can bring it back
    PAUSED = "paused"  #: an operator's will
    REVOKED = "revoked"  #: ended on purpose


#: The states in which a due grant is claimed.
ROTATED_STATES: Final = (GrantState.ACTIVE, GrantState.IN_DOUBT, GrantState.SUSPECT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right of one worker to refresh one grant, and what every settle compares with the row."""

    grant_id: UUID
    lease_id: UUID
    generation: int  #: how often this grant's refresh token has been replaced


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedGrant:
    """One grant under lease, as the claim returned it.

    `claimed_at` is the database's clock at the claim and `claimed_tick` this process's monotonic clock just after it,
    in seconds: together they turn monotonic readings into instants without trusting the wall clock.
    `leased_until` is how long this process may believe in its lease by that reckoning: never longer than the row says.
    """

    lease: Lease
    client: str
    subject: str
    state: GrantState
    refresh_token: Secret
    access_token: Secret | None  #: the stored one: some providers are asked with it
    leased_until: datetime
    claimed_at: datetime
    claimed_tick: float
    rotate_at: datetime | None
    consented_at: datetime | None
    access_expires_at: datetime | None
    strikes: int
    failures: int
    scopes: tuple[str, ...] | None
    lost_scopes: tuple[str, ...]  #: what an earlier answer took away
    captured: Mapping[str, str]  #: what was kept of redirects and answers, for the provider's placeholders
    presentations: int  #: how often this generation's refresh token has been presented before, when in doubt
    doubt_since: datetime | None
    is_canary: bool  #: claimed while its client's breaker is open, to see whether it may close

    @property
    def is_doubtful(self) -> bool:
        """Whether this refresh token has been presented before without a readable answer."""
        return self.doubt_since is not None
