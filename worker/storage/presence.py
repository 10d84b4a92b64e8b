"""A worker's presence: a session advisory lock that PostgreSQL gives up the moment the worker's connection is gone.

A worker that was killed is noticed by this within a tick, long before its leases end, so that a reuse grace of half a
minute can still be met. It needs a session of its own: behind a transaction pooler it is switched off, and the end of
the lease serves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from worker.storage.away import AWAY

#: The first half of the advisory lock's key: all workers share it, nobody else uses it. Spells "EVGW".
PRESENCE: Final = 0x45564757
#: Seconds between looks at one's own lock: shorter than the rescuer waits before it believes that a worker is gone.
LOOK_EVERY: Final = 1.0
_LARGEST: Final = 2**31 - 1  # the second half of the key is a signed int4

_TAKE: Final = text("SELECT pg_try_advisory_lock(:presence, :worker)")
_HELD: Final = text("""
    SELECT count(*) FROM pg_locks
     WHERE locktype = 'advisory' AND classid = CAST(:presence AS oid) AND objid = CAST(:worker AS oid)
       AND pid = pg_backend_pid() AND granted
""")

_COUNT: Final = text("""
    SELECT count(*) FROM pg_locks
     WHERE locktype = 'advisory' AND classid = CAST(:presence AS oid) AND granted
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
""")


async def count_workers(engine: AsyncEngine) -> int:
    """Return how many workers are there, by their locks; those with `session_lock = false` are not seen."""
    async with engine.connect() as connection:
        found: int = (await connection.execute(_COUNT, {"presence": PRESENCE})).scalar_one()
    return found


class Presence:
    """Holds this worker's lock and says under which number its claims are to be recorded.

    Args:
        engine: makes the one connection that holds the lock.
        draw: chance in [0, 1), for the worker's number.
        on_loss: told when the lock had to be taken anew.

    """

    def __init__(self, engine: AsyncEngine, draw: Callable[[], float], on_loss: Callable[[], None]) -> None:
        self._engine = engine
        self._draw = draw
        self._on_loss = on_loss
        self._connection: AsyncConnection | None = None
        self._worker: int | None = None
        self._last: int | None = None

    @property
    def worker(self) -> int | None:
        """Return the number that this worker's claims carry; None while there is no lock that vouches for it."""
        return self._worker

    async def take(self) -> None:
        """Take the lock under the number of before, which vouches for what is in flight, or one that nobody has."""
        connection = await self._engine.connect()
        try:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            worker = self._last or self._new_number()
            while not (await connection.execute(_TAKE, {"presence": PRESENCE, "worker": worker})).scalar_one():
                worker = self._new_number()
        except BaseException:
            await connection.close()
            raise
        self._connection, self._worker, self._last = connection, worker, worker

    async def keep(self) -> None:
        """Look after the lock until cancelled: where the connection was lost, take another lock for later claims."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                if self._connection is None:
                    await self.take()
                elif not await self._is_held(self._connection):
                    await self._lose()
            except AWAY:
                await self._lose()

    async def release(self) -> None:
        """Give the lock up."""
        await self._lose(told=False)

    def _new_number(self) -> int:
        return 1 + int(self._draw() * (_LARGEST - 1))

    async def _is_held(self, connection: AsyncConnection) -> bool:
        found = await connection.execute(_HELD, {"presence": PRESENCE, "worker": self._worker})
        return bool(found.scalar_one())

    async def _lose(self, *, told: bool = True) -> None:
        connection, self._connection, self._worker = self._connection, None, None
        if connection is None:
            return
        if told:
            self._on_loss()
        try:
            # Not back into the pool: the session, and with it any lock, ends here.
            await connection.invalidate()
            await connection.close()
        except SQLAlchemyError:
            return
