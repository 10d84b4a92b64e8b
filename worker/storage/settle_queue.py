"""The settles of one process: given to the committing threads, and brought through when the database is away.

A result counts as stored only after its transaction has committed. What cannot be stored at once goes, sealed, into the
escrow, and is tried again until the database is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import Final
from uuid import UUID

from sqlalchemy import Engine

from worker.domain.grant import Lease
from worker.domain.secret import Secret
from worker.domain.settlement import Settlement
from worker.storage.away import AWAY, until_taken
from worker.storage.commit_threads import Commit, Committed, CommitThreads
from worker.storage.escrow import Escrow
from worker.storage.patience import Patience
from worker.storage.sealed_settlement import SealedSettlement, seal_settlement
from worker.storage.sealing import KeyRing

#: A commit takes milliseconds; one that has not come back after so many seconds may never, and its tokens go into the
#: escrow meanwhile.
PATIENCE_SECONDS: Final = 1.0


class Settled(Enum):
    """What became of a settlement."""

    STORED = auto()
    SUSPECTED = auto()  #: a death that the brake has turned into a suspicion
    SUPERSEDED = auto()  #: the row was changed by somebody else meanwhile, and was left alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What became of a settlement, and when: the monotonic clock right after its commit, in seconds."""

    settled: Settled
    tick: float


class SettleQueue:
    """Stores settlements in small shared transactions.

    Args:
        engine: connections of the committing threads, `COMMIT_CONNECTIONS` of them.
        keys: seals the tokens.
        escrow: keeps sealed tokens while the database is away.
        on_retry: told each time the database did not take a batch, with the error's class and the size.
        tick: the monotonic clock, in seconds.

    """

    def __init__(
        self,
        engine: Engine,
        keys: KeyRing,
        escrow: Escrow,
        on_retry: Callable[[str, int], None],
        tick: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._tick = tick
        self._threads = CommitThreads(engine, self._deliver, tick)
        self._keys = keys
        self._escrow = escrow
        self._on_retry = on_retry
        self._away = False
        self._patience = Patience(PATIENCE_SECONDS, self._keep)
        #: By lease: what was brought, or is being brought, into the escrow.
        self._kept: dict[UUID, asyncio.Task[None]] = {}

    def start(self) -> None:
        """Make the connections now, where settles are to be expected."""
        self._threads.start()

    async def settle(self, lease: Lease, settlement: Settlement, presented: Secret | None = None) -> Settled:
        """Store one settlement; returns after its commit. Waits as long as the database is away."""
        return (await self.commit(lease, settlement, presented)).settled

    async def commit(self, lease: Lease, settlement: Settlement, presented: Secret | None = None) -> Stored:
        """Store one settlement, and tell when that was; returns after its commit.

        It waits as long as the database is away.

        Args:
            lease: under which it was made.
            settlement: what is to be stored.
            presented: the refresh token that was presented; the lineage keeps its fingerprint.

        """
        sealed = seal_settlement(lease, settlement, self._keys, presented)
        first = self._commit(sealed)
        # A commit that hangs says nothing of whether it will go through: the tokens must not wait for that.
        wait = self._patience.begin(sealed)
        if self._away:
            self._keep(sealed)
        try:
            committed = await self._brought(sealed, first)
        except asyncio.CancelledError:
            # The process goes. Should the commit go through after all, the drain of the escrow will see that.
            await asyncio.shield(self._keep(sealed))
            raise
        finally:
            wait.end()
        if lease.lease_id in self._kept:
            if lease.grant_id not in committed.changed:
                # Not superseded, perhaps, but stored out of the escrow by somebody's tick.
                committed = await self._bring_through(sealed, None)
            await self._forget(sealed)
        return Stored(settled=_settled(lease, committed), tick=committed.tick)

    async def keep_what_waits(self) -> None:
        """Bring the tokens of all that is not stored yet into the escrow: the process goes and cannot wait for it."""
        self._patience.run_out()
        if self._kept:
            await asyncio.wait(self._kept.values())

    def is_kept(self, lease: Lease) -> bool:
        """Tell whether the tokens of a settlement that was not stored wait in the escrow."""
        return self._escrow.is_kept(lease)

    def ended_threads(self) -> list[str]:
        """Return the names of committing threads that have ended by themselves: nothing is stored without them."""
        return self._threads.ended()

    async def close(self) -> None:
        """End the committing threads and close their connections."""
        await asyncio.to_thread(self._threads.close)
        await asyncio.to_thread(self._engine.dispose)

    def _commit(
        self, sealed: SealedSettlement, *, again: bool = False, alone: bool = False
    ) -> asyncio.Future[Committed]:
        came: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
        self._threads.put(Commit(sealed=sealed, came=came, since=self._tick(), again=again, alone=alone))
        return came

    def _deliver(self, batch: Sequence[Commit], came: Committed | Exception) -> None:
        """Bring what came of a batch from its committing thread to the loop."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            batch[0].came.get_loop().call_soon_threadsafe(self._receive, batch, came)

    def _receive(self, batch: Sequence[Commit], came: Committed | Exception) -> None:
        self._away = isinstance(came, AWAY)
        if self._away:
            self._on_retry(type(came).__name__, len(batch))
        for commit in batch:
            if commit.came.done():  # nobody waits for it any more
                continue
            if isinstance(came, Exception):
                commit.came.set_exception(came)
            else:
                commit.came.set_result(came)

    async def _brought(self, sealed: SealedSettlement, first: asyncio.Future[Committed]) -> Committed:
        try:
            return await first
        except Exception as error:  # noqa: BLE001 -- whatever it was, the tokens must not be lost
            return await self._bring_through(sealed, error)

    async def _bring_through(self, sealed: SealedSettlement, error: Exception | None) -> Committed:
        """Store what did not go through, or may have.

        Args:
            sealed: the settlement.
            error: why its commit failed; None where it may have been stored out of the escrow.

        Raises:
            SQLAlchemyError: when the database refuses it.

        """
        if isinstance(error, AWAY):
            await asyncio.shield(self._keep(sealed))
        alone = error is not None and not isinstance(error, AWAY)
        while True:
            try:
                # tenacity is built only here, after a first failure: in the ordinary case nothing is paid for it.
                return await until_taken(
                    partial(self._commit, sealed, again=True, alone=alone),
                    # A full disk may have been emptied, or the broker be back, before the database is.
                    on_retry=lambda _error: self._keep(sealed),
                )
            except Exception:
                if alone:
                    await asyncio.shield(self._keep(sealed))
                    raise
                # One settlement that the database refuses must not take its neighbours with it.
                alone = True

    def _keep(self, sealed: SealedSettlement) -> asyncio.Task[None]:
        """Bring a settlement's tokens into the escrow: once, and anew where no home took them."""
        kept = self._kept.get(sealed.lease.lease_id)
        if kept is None or (kept.done() and not self._escrow.holds(sealed)):
            kept = self._kept[sealed.lease.lease_id] = asyncio.ensure_future(self._escrow.put([sealed]))
        return kept

    async def _forget(self, sealed: SealedSettlement) -> None:
        await asyncio.shield(self._kept[sealed.lease.lease_id])
        await self._escrow.remove([sealed])
        del self._kept[sealed.lease.lease_id]


def _settled(lease: Lease, committed: Committed) -> Settled:
    if lease.grant_id in committed.suspected:
        return Settled.SUSPECTED
    return Settled.STORED if lease.grant_id in committed.changed else Settled.SUPERSEDED
