"""Storing what an owner has consented to, though the database be away: the code is spent by then.

It is tried for as long as a browser can be made to wait. From the first failure on the consent lies in the escrow too,
and is stored out of it by whichever process finds the database back.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol
from uuid import UUID

from worker.oauth.registry import Registry
from worker.storage.away import AWAY, until_taken
from worker.storage.consent_escrow import ConsentEscrow, KeptConsent
from worker.storage.consents import AccountRefused, Arrival, Consents, StoredConsent
from worker.storage.new_grants import NewGrant
from worker.usecases.give_back import GivingBack, replaced, unwanted

#: How long the browser waits for a database that is away, seconds.
STORE_SECONDS: Final = 10.0


class ConsentKept:
    """The database did not take a consent in time, and the escrow has it."""


class StoreObserver(Protocol):
    """Is told what became of consents that waited. Its methods are quick and raise nothing."""

    def revived(self, client: str) -> None:
        """Hear that an owner brought a grant back."""

    def kept_consent_stored(self, client: str, *, refused: bool) -> None:
        """Hear that a consent is out of the escrow: stored, or refused for its account."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentStore:
    """Stores consents."""

    consents: Consents
    escrow: ConsentEscrow
    registry: Registry
    giving_back: GivingBack
    observer: StoreObserver
    background: set[asyncio.Task[Any]] = field(default_factory=set, init=False)

    async def store(
        self, new_id: UUID, grant: NewGrant, consented_at: datetime
    ) -> StoredConsent | AccountRefused | ConsentKept | None:
        """Store a consent, trying for a while; None where neither the database nor the escrow took it.

        Args:
            new_id: used where there is no grant yet.
            grant: the tokens and their instants.
            consented_at: when the tokens were asked for, on the database's clock.

        """
        consent = KeptConsent(new_id=new_id, grant=grant, consented_at=consented_at)
        try:
            return await self._store(consent)
        except AWAY:
            is_kept = await self.escrow.put(consent)
        try:
            result = await until_taken(lambda: self._store(consent), seconds=STORE_SECONDS)
        except AWAY:
            return ConsentKept() if is_kept else None
        if is_kept:
            await self.escrow.remove(new_id)
        return result

    async def store_kept(self) -> int:
        """Store the consents that waited while the database was away; returns how many cannot be stored as they are."""
        return await self.escrow.drain(self._store_kept)

    async def _store(self, consent: KeptConsent) -> StoredConsent | AccountRefused:
        result = await self.consents.store_consent(consent.new_id, consent.grant, consent.consented_at)
        match result:
            case StoredConsent(arrival=Arrival.REVIVED, is_repeated=False):
                self.observer.revived(consent.grant.client)
            case _:
                pass
        return result

    async def _store_kept(self, kept: KeptConsent) -> None:
        grant, client = kept.grant, self.registry.clients.get(kept.grant.client)
        result = await self._store(kept)
        self.observer.kept_consent_stored(grant.client, refused=isinstance(result, AccountRefused))
        if client is None:
            return
        unneeded = (
            replaced(client, result.replaced, grant)
            if isinstance(result, StoredConsent)
            else unwanted(client, grant, grant.account, result.stored)
        )
        if unneeded is not None:
            # Not waited for: what is stored now must not wait for a provider that is slow.
            task = asyncio.create_task(self.giving_back.give_back(unneeded))
            self.background.add(task)
            task.add_done_callback(self.background.discard)
