"""Storing what an owner has consented to, though the database be away for a moment: the code is spent by then."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from worker.storage.away import AWAY, until_taken
from worker.storage.consents import AccountRefused, Consents, NewGrant, StoredConsent

#: How long the browser waits for a database that is away, seconds.
STORE_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentStore:
    """Stores consents."""

    consents: Consents

    async def store(
        self, new_id: UUID, grant: NewGrant, consented_at: datetime
    ) -> StoredConsent | AccountRefused | None:
        """Store a consent, trying for a while; None where the database did not take it.

        Args:
            new_id: used where there is no grant yet.
            grant: the tokens and their instants.
            consented_at: when the tokens were asked for, on the database's clock.

        """
        try:
            return await until_taken(
                lambda: self.consents.store_consent(new_id, grant, consented_at), seconds=STORE_SECONDS
            )
        except AWAY:
            return None
