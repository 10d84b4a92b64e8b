"""`keys rotate`: pass after pass over every sealed column, until one finds nothing that an older key has sealed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from worker.domain.ring_holder import EscrowReport, RingHolder, needing, sealing_otherwise
from worker.storage.consent_escrow import reseal_consent
from worker.storage.escrow_entry import reseal_settlement
from worker.storage.escrow_homes import EscrowHome
from worker.storage.escrow_reseal import EntriesResealed, reseal_entries
from worker.storage.grant_counts import count_grants
from worker.storage.reseal import count_sealed_under, reseal_window
from worker.storage.ring_holders import escrow_reports, live_holders
from worker.storage.sealed_tables import SEALED_TABLES
from worker.storage.sealing import KeyRing

#: After the first pass only what was locked or has changed is left, for some milliseconds each. Whoever is not done by
#: now works against a process that goes on sealing under an older key.
PASSES: Final = 10


@dataclass(slots=True, kw_only=True)
class Resealed:
    """What came of it."""

    rows: int = 0  #: sealed anew
    entries: int = 0  #: of the escrow, sealed anew
    passes: int = 0
    left: int = 0  #: rows that were sealed under an older key when the last pass saw them
    lacking: dict[str, int] = field(default_factory=dict)  #: rows by the id of the key that the ring lacks
    broken: int = 0  #: rows that do not open with the key that they name
    unreadable_entries: int = 0
    homes_away: int = 0

    @property
    def is_whole(self) -> bool:
        """Tell whether nothing is sealed under an older key any more, as far as this machine can see."""
        return not (self.left or self.lacking or self.broken or self.unreadable_entries or self.homes_away)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resealing:
    """Seals anew under the key that seals now."""

    engine: AsyncEngine
    keys: KeyRing
    settlements: Sequence[EscrowHome]
    consents: Sequence[EscrowHome]

    async def in_the_way(self) -> Sequence[RingHolder]:
        """Return the processes that seal under another key than the one that seals here."""
        return sealing_otherwise(await live_holders(self.engine), self.keys.sealing_id)

    async def run(self, on_progress: Callable[[str, int, int], None]) -> Resealed:
        """Seal everything anew; safe to stop at any time and to run again, from several places at once too.

        Args:
            on_progress: told after each batch, with the table, the rows looked at in this pass and those sealed anew.

        """
        done = Resealed()
        await self._entries(done)
        for number in range(1, PASSES + 1):
            done.passes = number
            found = await self._pass(done, on_progress)
            if found == 0:
                break
        await self._entries(done)  # what came in meanwhile from a process with an older ring
        return done

    async def aclose(self) -> None:
        """Close the escrow's homes; the connections to the database are the process's."""
        for home in (*self.settlements, *self.consents):
            await home.close()

    async def total(self) -> int:
        """Return how many grants there are, to say how far it has come."""
        async with self.engine.connect() as connection:
            counts = await count_grants(connection)
        return sum(sum(states.values()) for states in counts.values())

    async def rows(self, key_id: str) -> int:
        """Return how many rows are sealed under a key other than the sealing one."""
        return sum((await self.uses(key_id)).values())

    async def escrow_is_clear(self) -> bool:
        """Seal anew what waits in the escrow; False where an entry cannot be read, or a home of it did not answer."""
        done = Resealed()
        await self._entries(done)
        return not (done.unreadable_entries or done.homes_away)

    async def escrows_needing(self, key_id: str) -> Sequence[EscrowReport]:
        """Return the escrow's folders, of this and other machines, that held something under a key when last seen."""
        return needing(await escrow_reports(self.engine), key_id)

    async def uses(self, key_id: str) -> dict[str, int]:
        """Return how many rows are sealed under a key other than the sealing one, by where they are."""
        found: dict[str, int] = {}
        for table in SEALED_TABLES:
            count = (await count_sealed_under(self.engine, table, self.keys)).get(key_id, 0)
            if count:
                found[table.name] = count
        return found

    async def _pass(self, done: Resealed, on_progress: Callable[[str, int, int], None]) -> int:
        done.left, done.broken, done.lacking = 0, 0, {}
        can_be_resealed = 0
        for table in SEALED_TABLES:
            after, looked_at = table.lowest, 0
            while True:
                window = await reseal_window(self.engine, table, self.keys, after)
                if window.last is None:
                    break
                after, looked_at = window.last, looked_at + window.looked_at
                done.rows += window.resealed
                done.broken += window.broken
                for key_id, count in window.lacking.items():
                    done.lacking[key_id] = done.lacking.get(key_id, 0) + count
                hopeless = window.broken + sum(window.lacking.values())
                can_be_resealed += window.found - hopeless
                done.left += window.found - hopeless - window.resealed
                on_progress(table.name, looked_at, done.rows)
        return can_be_resealed

    async def _entries(self, done: Resealed) -> None:
        results: list[EntriesResealed] = [
            await reseal_entries(self.settlements, lambda _name, entry: reseal_settlement(entry, self.keys)),
            await reseal_entries(self.consents, lambda name, entry: reseal_consent(name, entry, self.keys)),
        ]
        done.entries += sum(one.resealed for one in results)
        done.unreadable_entries = sum(one.unreadable for one in results)
        done.homes_away = sum(one.away for one in results)
