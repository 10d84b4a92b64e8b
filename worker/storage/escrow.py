"""The escrow: the second durable home of a rotated token whose settle did not go through.

The database was away when the answer came. The sealed settlement is put into a file that is flushed to the disk, and
beside the broker's messages, so that neither this process nor this machine has to survive until the database is back.
What lies here is ciphertext under the same key ring, bound to the same row, as in the table.

An entry that cannot be read, or that the database refuses, stays where it is: it is told, counted and tried again with
growing waits, and holds up none of the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.domain.grant import Lease
from worker.domain.settlement import StoreTokens
from worker.storage.away import AWAY
from worker.storage.escrow_entry import dump, entry_name, load
from worker.storage.escrow_homes import HOME_AWAY, EscrowHome
from worker.storage.settle import SealedSettlement, already_stored, settle

#: A refused entry is passed over for one drain, then for two, four and so on up to here: a minute or two of ticks.
_LONGEST_REST: Final = 64
#: So many entries in a row that the database did not answer for: it is away, and the others would fare no better.
_AWAY_AFTER: Final = 2


@dataclass(slots=True, kw_only=True)
class EscrowDrained:
    """What became of settlements that waited."""

    stored: int = 0
    superseded: int = 0
    refused: int = 0  #: how many wait on, for they could not be read or the database refused them


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refusal:
    times: int
    again_at: int  #: the number of the drain that tries it again


class _Refusals:
    """Which entries could not be stored, and when each is tried again; counted in drains, which ticks make."""

    def __init__(self) -> None:
        self._drains = 0
        self._refused: dict[str, _Refusal] = {}
        self._unanswered: set[str] = set()

    def begin(self) -> None:
        """Count a drain."""
        self._drains += 1

    def in_turn(self, names: Iterable[str]) -> Sequence[str]:
        """Return what this drain tries; what the database did not answer for comes last, for it may do so again."""
        resting = {name for name, refusal in self._refused.items() if refusal.again_at > self._drains}
        return sorted((name for name in names if name not in resting), key=lambda name: name in self._unanswered)

    def refused(self, name: str) -> None:
        """Note an entry that cannot be stored as it is."""
        known = self._refused.get(name)
        times = known.times + 1 if known is not None else 1
        self._refused[name] = _Refusal(times=times, again_at=self._drains + min(2**times, _LONGEST_REST))

    def unanswered(self, name: str) -> None:
        """Note an entry for which the database did not answer."""
        self._unanswered.add(name)

    def forget(self, name: str) -> None:
        """Forget an entry that is stored."""
        self._refused.pop(name, None)
        self._unanswered.discard(name)

    def count(self, waiting: Collection[str]) -> int:
        """Return how many of those that wait were refused, and forget those that are gone."""
        for name in {*self._refused, *self._unanswered} - set(waiting):
            self.forget(name)
        return len(self._refused)


class Escrow:
    """All homes together: a settlement is kept when one of them has it.

    Args:
        homes: where settlements can wait.
        on_failure: told when a home could not keep, give or forget, with what it was asked and the error.
        on_refusal: told of an entry that cannot be stored as it is, with its name and the error.

    """

    def __init__(
        self,
        homes: Sequence[EscrowHome],
        on_failure: Callable[[str, BaseException], None],
        on_refusal: Callable[[str, BaseException], None],
    ) -> None:
        self._homes = homes
        self._on_failure = on_failure
        self._on_refusal = on_refusal
        self._kept: set[UUID] = set()
        self._refusals = _Refusals()

    def is_kept(self, lease: Lease) -> bool:
        """Tell whether this process has brought the tokens of a lease into a home and not yet taken them out."""
        return lease.lease_id in self._kept

    async def put(self, several: Iterable[SealedSettlement]) -> None:
        """Keep the tokens among these settlements in every home that takes them."""
        tokens = [sealed for sealed in several if sealed.kind is StoreTokens and not self.is_kept(sealed.lease)]
        await asyncio.gather(*(self._put(home, sealed) for sealed in tokens for home in self._homes))

    async def remove(self, several: Iterable[SealedSettlement]) -> None:
        """Forget settlements that are stored or superseded; those that were never kept cost nothing."""
        kept = [sealed.lease for sealed in several if self.is_kept(sealed.lease)]
        await asyncio.gather(*(self._remove(entry_name(lease), lease) for lease in kept))

    async def drain(self, engine: AsyncEngine) -> EscrowDrained:
        """Store what waits through the same guarded settle; what cannot be stored yet goes on waiting."""
        drained, waiting = EscrowDrained(), set[str]()
        self._refusals.begin()
        for home in self._homes:
            try:
                names = await home.names()
                waiting.update(names)
                await self._drain_home(engine, home, self._refusals.in_turn(names), drained)
            except (*HOME_AWAY, *AWAY) as error:
                self._on_failure("drain", error)  # the other homes are drained all the same
        drained.refused = self._refusals.count(waiting)
        return drained

    async def depth(self) -> int:
        """Return how many settlements wait; one that waits in two homes counts once."""
        depths = [0]
        for home in self._homes:
            try:
                depths.append(await home.depth())
            except HOME_AWAY as error:
                self._on_failure("depth", error)
        return max(depths)

    async def close(self) -> None:
        """Close the homes' connections."""
        for home in self._homes:
            await home.close()

    async def _put(self, home: EscrowHome, sealed: SealedSettlement) -> None:
        try:
            await home.put(entry_name(sealed.lease), dump(sealed))
            self._kept.add(sealed.lease.lease_id)
        except HOME_AWAY as error:
            self._on_failure("put", error)

    async def _drain_home(
        self, engine: AsyncEngine, home: EscrowHome, names: Iterable[str], drained: EscrowDrained
    ) -> None:
        unanswered = 0
        for name in names:
            sealed = await self._read(home, name)
            if sealed is None:
                continue
            try:
                if await self._settle(engine, sealed):
                    drained.stored += 1
                else:
                    drained.superseded += 1
            except AWAY as error:
                # One may be the entry's own, such as a row that somebody holds locked.
                self._refusals.unanswered(name)
                unanswered += 1
                if unanswered >= _AWAY_AFTER:
                    raise
                self._on_failure("drain", error)
            except Exception as error:  # noqa: BLE001 -- whatever one entry raises, those behind it are stored
                self._refuse(name, error)
            else:
                unanswered = 0
                await self._remove(name, sealed.lease)

    async def _read(self, home: EscrowHome, name: str) -> SealedSettlement | None:
        """Return an entry, or None where there is none to be had."""
        try:
            text = await home.read(name)
            return None if text is None else load(text)
        except RedisError:
            raise
        except Exception as error:  # noqa: BLE001 -- damaged, or of another version: whoever can read it may want it
            self._refuse(name, error)
            return None

    def _refuse(self, name: str, error: Exception) -> None:
        self._refusals.refused(name)
        self._on_refusal(name, error)

    async def _remove(self, name: str, lease: Lease) -> None:
        for home in self._homes:
            try:
                await home.remove(name)
            except HOME_AWAY as error:
                self._on_failure("remove", error)
        self._kept.discard(lease.lease_id)
        self._refusals.forget(name)

    async def _settle(self, engine: AsyncEngine, sealed: SealedSettlement) -> bool:
        async with engine.begin() as connection:
            changed = await connection.run_sync(settle, [sealed])
            changed |= await connection.run_sync(already_stored, [sealed])
        return sealed.lease.grant_id in changed
