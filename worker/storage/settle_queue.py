"""Group commit for settles: results that arrive within a few milliseconds share one transaction.

A result counts as stored only after its transaction has committed. While the database is away the queue brings the
sealed tokens into the escrow at once, and tries again until it is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final
from uuid import UUID

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.domain.grant import Lease
from worker.domain.secret import Secret
from worker.domain.settlement import MarkSuspect, Settlement
from worker.storage.away import AWAY, until_taken
from worker.storage.brake import apply_brake
from worker.storage.escrow import Escrow
from worker.storage.sealing import KeyRing
from worker.storage.settle import SealedSettlement, already_stored, seal_settlement, settle

#: Results that come this soon after each other share a commit; the wait is a small part of the 20 ms that an answer
#: may take to be durable.
LINGER_SECONDS: Final = 0.003
#: A commit takes milliseconds; one that has not come back after so many seconds may never, and its tokens go into the
#: escrow meanwhile.
PATIENCE_SECONDS: Final = 1.0
#: Results in one transaction at most: more would make the first of them wait for the last.
BATCH_LIMIT: Final = 200


class Settled(Enum):
    """What became of a settlement."""

    STORED = auto()
    SUSPECTED = auto()  #: a death that the brake has turned into a suspicion
    SUPERSEDED = auto()  #: the row was changed by somebody else meanwhile, and was left alone


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    sealed: SealedSettlement
    stored: asyncio.Future[Settled]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Committed:
    """What one transaction changed, and which deaths it stored as suspicions."""

    changed: frozenset[UUID]
    suspected: frozenset[UUID]


class SettleQueue:
    """Stores settlements in small shared transactions.

    Args:
        engine: the process's connections.
        keys: seals the tokens.
        escrow: keeps sealed tokens while the database is away.
        on_retry: told each time the database did not take a batch, with the error's class and the size.

    """

    def __init__(
        self, engine: AsyncEngine, keys: KeyRing, escrow: Escrow, on_retry: Callable[[str, int], None]
    ) -> None:
        self._engine = engine
        self._keys = keys
        self._escrow = escrow
        self._away = False
        self._on_retry = on_retry
        self._waiting: list[_Waiting] = []
        self._flusher: asyncio.Task[None] | None = None

    async def settle(self, lease: Lease, settlement: Settlement, presented: Secret | None = None) -> Settled:
        """Store one settlement; returns after its commit. Waits as long as the database is away.

        Args:
            lease: under which it was made.
            settlement: what is to be stored.
            presented: the refresh token that was presented; the lineage keeps its fingerprint.

        """
        sealed = seal_settlement(lease, settlement, self._keys, presented)
        waiting = _Waiting(sealed=sealed, stored=asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush())
        if self._away:
            await self._escrow.put([sealed])  # its turn in the queue may come late
        return await waiting.stored

    def is_kept(self, lease: Lease) -> bool:
        """Tell whether the tokens of a settlement that was not stored wait in the escrow."""
        return self._escrow.is_kept(lease)

    async def _flush(self) -> None:
        await asyncio.sleep(LINGER_SECONDS)
        while self._waiting:
            batch, self._waiting = self._waiting[:BATCH_LIMIT], self._waiting[BATCH_LIMIT:]
            try:
                await self._store(batch)
            except BaseException as error:
                # A task that waits for a commit must learn that there will be none.
                for waiting in batch:
                    if not waiting.stored.done():
                        waiting.stored.set_exception(error)
                if not isinstance(error, SQLAlchemyError):
                    raise

    async def _store(self, batch: list[_Waiting]) -> None:
        try:
            committed = await self._commit(batch)
        except DBAPIError:
            if len(batch) == 1:
                await self._escrow.put([batch[0].sealed])
                raise
            # One settlement that the database refuses must not take its neighbours with it.
            for waiting in batch:
                await self._store_alone(waiting)
            return
        await self._escrow.remove(waiting.sealed for waiting in batch)
        for waiting in batch:
            if not waiting.stored.done():
                waiting.stored.set_result(_settled(waiting.sealed.lease, committed))

    async def _store_alone(self, waiting: _Waiting) -> None:
        try:
            await self._store([waiting])
        except DBAPIError as error:
            if not waiting.stored.done():
                waiting.stored.set_exception(error)

    async def _commit(self, batch: list[_Waiting]) -> _Committed:
        sealed = [waiting.sealed for waiting in batch]
        # What lies in the escrow may have been stored from there meanwhile, by any worker's tick.
        first = asyncio.create_task(
            self._commit_once(sealed, again=any(self._escrow.is_kept(its.lease) for its in sealed))
        )
        await asyncio.wait([first], timeout=PATIENCE_SECONDS)
        if first.done() and not isinstance(first.exception(), AWAY):
            return first.result()
        self._away = True
        try:
            # A commit that hangs says nothing of whether it will go through: the tokens must not wait for that.
            await self._escrow.put([*sealed, *(waiting.sealed for waiting in self._waiting)])
            try:
                return await first
            except AWAY as error:
                self._on_retry(type(error).__name__, len(sealed))
            # tenacity is built only here, after a first failure: in the ordinary case nothing is paid for it.
            return await until_taken(
                lambda: self._commit_once(sealed, again=True),
                on_retry=lambda error: self._on_retry(type(error).__name__, len(sealed)),
            )
        finally:
            self._away = False

    async def _commit_once(self, sealed: list[SealedSettlement], *, again: bool = False) -> _Committed:
        async with self._engine.begin() as connection:
            braked = await apply_brake(connection, sealed)
            changed = await settle(connection, braked)
            if again:
                # A commit whose acknowledgement was lost has gone through: its lease is gone, its tokens are there.
                changed |= await already_stored(connection, sealed)
        suspects = frozenset(found.lease.grant_id for found in braked if found.kind is MarkSuspect)
        return _Committed(changed=changed, suspected=suspects & changed)


def _settled(lease: Lease, committed: _Committed) -> Settled:
    if lease.grant_id in committed.suspected:
        return Settled.SUSPECTED
    return Settled.STORED if lease.grant_id in committed.changed else Settled.SUPERSEDED
