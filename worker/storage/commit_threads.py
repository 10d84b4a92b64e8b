"""Threads that commit settlements: what was read becomes durable without waiting for the event loop's other work.

On the loop a commit takes several of its turns, each as long as everything else that is ready: a hundred milliseconds
on a busy worker. Here it takes as long as the database does.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from worker.domain.settlement import MarkSuspect, StoreTokens
from worker.storage.away import AWAY
from worker.storage.brake import apply_brake
from worker.storage.sealed_settlement import SealedSettlement
from worker.storage.settle import already_stored, settle

#: A second thread begins the next commit while the disk is still busy with the one before.
COMMIT_THREADS: Final = 2
#: Each thread keeps one, and takes another for what needs a transaction.
COMMIT_CONNECTIONS: Final = 2 * COMMIT_THREADS
#: Results that come this soon after each other, seconds, share a commit: a third of the 20 ms that an answer may take
#: to be durable. With 4 ms a refresh takes a twentieth more of the processor than with 8 ms.
LINGER_SECONDS: Final = 0.006
#: Results in one transaction at most: more would make the first of them wait for the last.
BATCH_LIMIT: Final = 200
#: Seconds to wait for the threads' end; whoever waited for a commit that hangs longer has its tokens in the escrow.
_JOIN_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """What one transaction changed, and which deaths it stored as suspicions."""

    changed: frozenset[UUID]
    tick: float  #: the monotonic clock right after it, in seconds
    suspected: frozenset[UUID] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One settlement to be committed, and who waits for that."""

    sealed: SealedSettlement
    came: asyncio.Future[Committed]
    since: float  #: when it was given, by the monotonic clock, in seconds
    again: bool = False  #: it may have gone through already
    alone: bool = False  #: the database refused it, or one that shared its transaction


#: Told in the committing thread what came of some commits that shared a transaction.
Deliver = Callable[[Sequence[Commit], Committed | Exception], None]


class CommitThreads:
    """Commits what it is given, small batches at a time.

    Args:
        engine: `COMMIT_CONNECTIONS`, on which each statement commits by itself.
        deliver: told what came of each batch, in the committing thread.
        tick: the monotonic clock, in seconds.

    """

    def __init__(self, engine: Engine, deliver: Deliver, tick: Callable[[], float]) -> None:
        self._engine = engine
        self._tick = tick
        self._transactions = engine.execution_options(isolation_level="READ COMMITTED")
        self._deliver = deliver
        self._commits: SimpleQueue[Commit | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._kept = threading.local()

    def start(self) -> None:
        """Start the threads and make their connections, so that the first answers do not wait for that."""
        if self._threads:
            return
        for number in range(COMMIT_THREADS):
            thread = threading.Thread(target=self._work, name=f"commits-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def put(self, commit: Commit) -> None:
        """Take something to commit; returns at once."""
        self.start()
        self._commits.put(commit)

    def ended(self) -> list[str]:
        """Return the names of the threads that have ended though they were not told to."""
        return [thread.name for thread in self._threads if not thread.is_alive()]

    def close(self) -> None:
        """Commit what is waiting, and end the threads."""
        for _ in self._threads:
            self._commits.put(None)
        for thread in self._threads:
            thread.join(_JOIN_SECONDS)
        self._threads.clear()

    def _work(self) -> None:
        with suppress(*AWAY):
            self._connection()
        while (first := self._commits.get()) is not None:
            batch = self._gather(first)
            try:
                came: Committed | Exception = self._commit(batch)
            except Exception as error:  # noqa: BLE001 -- who waits for a commit must learn that there was none
                came = error
                self._let_go()
            self._deliver(batch, came)
        self._let_go()

    def _connection(self) -> Connection:
        """Return this thread's connection, which is not given back after each commit: that costs as much as one."""
        kept: Connection | None = getattr(self._kept, "connection", None)
        if kept is None:
            kept = self._kept.connection = self._engine.connect()
        return kept

    def _let_go(self) -> None:
        """Close this thread's connection, whatever state it is in; the next commit makes another."""
        kept: Connection | None = getattr(self._kept, "connection", None)
        self._kept.connection = None
        if kept is not None:
            with suppress(SQLAlchemyError):
                kept.invalidate()
                kept.close()

    def _gather(self, first: Commit) -> list[Commit]:
        """Return what is committed together with the first that was taken from the queue."""
        batch = [first]
        if first.alone:
            return batch
        # What has waited for a thread has lingered meanwhile.
        time.sleep(max(0.0, first.since + LINGER_SECONDS - self._tick()))
        while len(batch) < BATCH_LIMIT:
            try:
                found = self._commits.get_nowait()
            except Empty:
                break
            if found is None or found.alone or found.again is not first.again:
                self._commits.put(found)  # behind the others: no two of them concern the same lease
                break
            batch.append(found)
        return batch

    def _commit(self, batch: Sequence[Commit]) -> Committed:
        again = batch[0].again
        sealed = [commit.sealed for commit in batch]
        if not again and all(its.kind is StoreTokens for its in sealed):
            # The ordinary case is one statement, and commits by itself: one way to the database and back.
            changed = settle(self._connection(), sealed)
            return Committed(changed=changed, tick=self._tick())
        with self._transactions.begin() as connection:
            braked = apply_brake(connection, sealed)
            changed = settle(connection, braked)
            if again:
                # A commit whose acknowledgement was lost has gone through: its lease is gone, its tokens are there.
                changed |= already_stored(connection, sealed)
        suspects = frozenset(found.lease.grant_id for found in braked if found.kind is MarkSuspect)
        return Committed(changed=changed, tick=self._tick(), suspected=suspects & changed)
