"""The escrow: the second durable home of a rotated token whose settle did not go through.

The database was away when the answer came. The sealed settlement is put into a file that is flushed to the disk, and
beside the broker's messages, so that neither this process nor this machine has to survive until the database is back.
What lies here is ciphertext under the same key ring, bound to the same row, as in the table.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from worker.domain.grant import Lease
from worker.domain.settlement import StoreTokens
from worker.storage.escrow_entry import dump, entry_name, load, reseal_settlement
from worker.storage.escrow_shelf import EscrowShelf
from worker.storage.sealed_settlement import SealedSettlement
from worker.storage.sealing import KeyRing
from worker.storage.settle import already_stored, settle


@dataclass(slots=True, kw_only=True)
class EscrowDrained:
    """What became of settlements that waited."""

    stored: int = 0
    superseded: int = 0
    refused: int = 0  #: how many wait on, for they could not be read or the database refused them


class Escrow:
    """Keeps settlements that the database did not take.

    Args:
        shelf: where they wait.
        keys: what was sealed under an older key is stored under the one that seals now.

    """

    def __init__(self, shelf: EscrowShelf, keys: KeyRing) -> None:
        self._shelf = shelf
        self._keys = keys
        self._kept: set[UUID] = set()

    def is_kept(self, lease: Lease) -> bool:
        """Tell whether this process has brought the tokens of a lease into a home and not yet taken them out."""
        return lease.lease_id in self._kept

    def holds(self, sealed: SealedSettlement) -> bool:
        """Tell whether there is nothing of a settlement that would have to be brought here, or it has been."""
        return sealed.kind is not StoreTokens or self.is_kept(sealed.lease)

    async def put(self, several: Iterable[SealedSettlement]) -> None:
        """Keep the tokens among these settlements in every home that takes them."""
        tokens = [sealed for sealed in several if not self.holds(sealed)]
        await asyncio.gather(*(self._put(sealed) for sealed in tokens))

    async def remove(self, several: Iterable[SealedSettlement]) -> None:
        """Forget settlements that are stored or superseded; those that were never kept cost nothing."""
        kept = [sealed.lease for sealed in several if self.is_kept(sealed.lease)]
        await asyncio.gather(*(self._remove(lease) for lease in kept))

    async def drain(self, engine: AsyncEngine) -> EscrowDrained:
        """Store what waits through the same guarded settle; what cannot be stored yet goes on waiting."""
        drained = EscrowDrained()

        async def store(_name: str, entry: str) -> None:
            # Under the key that seals now: the key of an entry may be retired by the time it comes back. Without that
            # key nothing is stored, for nobody could open it, and the entry waits for the key.
            sealed = load(reseal_settlement(entry, self._keys))
            async with engine.begin() as connection:
                changed = await connection.run_sync(settle, [sealed])
                changed |= await connection.run_sync(already_stored, [sealed])
            if sealed.lease.grant_id in changed:
                drained.stored += 1
            else:
                drained.superseded += 1
            self._kept.discard(sealed.lease.lease_id)

        drained.refused = await self._shelf.drain(store)
        return drained

    async def depth(self) -> int:
        """Return how many settlements wait."""
        return await self._shelf.depth()

    async def close(self) -> None:
        """Close the homes' connections."""
        await self._shelf.close()

    async def _put(self, sealed: SealedSettlement) -> None:
        if await self._shelf.put(entry_name(sealed.lease), dump(sealed)):
            self._kept.add(sealed.lease.lease_id)

    async def _remove(self, lease: Lease) -> None:
        await self._shelf.remove(entry_name(lease))
        self._kept.discard(lease.lease_id)
