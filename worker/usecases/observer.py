"""What a use case tells the outside: metrics and logs, after the commit and never before."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol
from uuid import UUID

from worker.domain.grant import ClaimedGrant
from worker.domain.outcome import Outcome


class RotationObserver(Protocol):
    """Is told what happened to grants. Its methods are quick and raise nothing."""

    def refreshed(self, grant: ClaimedGrant, outcome: Outcome, *, seconds: float, late: timedelta) -> None:
        """Hear of one refresh: its outcome, how long the POST took, how late after `rotate_at` it began."""

    def refresh_raised(self, grant: ClaimedGrant, error: BaseException) -> None:
        """Hear of a bug: what became of a request could not be told, and its grant is in doubt for it."""

    def settled(self, grant: ClaimedGrant, *, seconds: float) -> None:
        """Hear that an outcome is stored, and how long after the answer was read."""

    def superseded(self, grant: ClaimedGrant, outcome: Outcome) -> None:
        """Hear that an outcome was not stored, for the row had changed meanwhile."""

    def settle_failed(self, grant: ClaimedGrant, outcome: Outcome, error: BaseException, *, kept: bool) -> None:
        """Hear that an outcome was not stored; with tokens in it that the escrow has not kept, that is a loss."""

    def unreadable(self, client: str, grant_id: UUID, error: Exception) -> None:
        """Hear that the key ring does not open a claimed grant's refresh token."""

    def died(self, client: str, reason: str) -> None:
        """Hear that a grant now needs its owner."""

    def braked(self, client: str) -> None:
        """Hear that a death was taken for a suspicion: abnormally many of the client's grants die at once."""

    def doubt_ended(self, client: str, resolution: str) -> None:
        """Hear how a grant's doubt ended."""

    def breaker_changed(self, client: str, *, is_open: bool, reason: str) -> None:
        """Hear that a client's breaker opened or closed."""

    def clock_skew(self, provider: str, seconds: float) -> None:
        """Hear how far a provider's clock is ahead of the database's."""
