"""Which processes run, and with which keys: each notes it in the database while it lives.

A key may be retired only when no process seals under it, and put first only when each could open what it seals. When a
process's session began tells neither: connections come and go, and a process keeps the ring that it started with.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.domain.ring_holder import EscrowReport, RingHolder
from worker.storage.away import AWAY

#: Seconds between a process's notes.
NOTE_EVERY: Final = 5.0
#: A process that was killed counts for so long after its last note. One that is alive misses none of twelve.
GONE_AFTER: Final = timedelta(seconds=60)
#: What a process that is gone said of its escrow is kept so long: by then its machine is back, or given up.
_KEPT: Final = timedelta(days=30)

_WRITE: Final = text("""
    WITH former AS (
        DELETE FROM ring_holders WHERE id IN (
            SELECT id FROM ring_holders
             WHERE id <> :id AND (seen_at < now() - CAST(:kept AS interval)
                   OR (host = :host AND home = :home
                       AND (ended_at IS NOT NULL OR seen_at < now() - CAST(:gone AS interval)))
                   OR (escrow = '{}' AND seen_at < now() - interval '1 day'))
               FOR UPDATE SKIP LOCKED))
    INSERT INTO ring_holders (id, role, host, pid, home, key_ids, escrow, started_at)
    VALUES (:id, :role, :host, :pid, :home, :key_ids, CAST(:escrow AS jsonb),
            coalesce(CAST(:started_at AS timestamptz), now()))
    ON CONFLICT (id) DO UPDATE SET seen_at = now(), escrow = excluded.escrow
    RETURNING started_at, EXISTS (SELECT FROM sealing_keys AS k WHERE k.id = ring_holders.key_ids[1]) AS is_needed
""")
_NEEDED_AGAIN: Final = text("INSERT INTO sealing_keys (id) VALUES (:key_id) ON CONFLICT (id) DO NOTHING")
_WITHDRAW: Final = text("DELETE FROM ring_holders WHERE id = :id")
_END: Final = text(
    "UPDATE ring_holders SET ended_at = now(), seen_at = now(), escrow = CAST(:e AS jsonb) WHERE id = :id"
)
# A database that has just come back has heard of nobody for as long as it was away.
_LIVE: Final = text("""
    SELECT role, host, pid, started_at, key_ids FROM ring_holders
     WHERE ended_at IS NULL
       AND (seen_at > now() - CAST(:gone AS interval)
            OR (pg_postmaster_start_time() > now() - CAST(:gone AS interval)
                AND seen_at > pg_postmaster_start_time() - interval '1 day'))
     ORDER BY started_at, id
""")
_ESCROWS: Final = text("""
    SELECT DISTINCT ON (host, home) host, home, seen_at, escrow FROM ring_holders ORDER BY host, home, seen_at DESC
""")


async def live_holders(engine: AsyncEngine) -> list[RingHolder]:
    """Return the processes that run, the oldest first; one that was killed is among them for `GONE_AFTER`."""
    async with engine.connect() as connection:
        rows = (await connection.execute(_LIVE, {"gone": GONE_AFTER})).all()
    return [
        RingHolder(role=row.role, host=row.host, pid=row.pid, since=row.started_at, key_ids=tuple(row.key_ids))
        for row in rows
    ]


async def escrow_reports(engine: AsyncEngine) -> list[EscrowReport]:
    """Return what each escrow's folder held when a process there last said so, those of processes that ended too."""
    async with engine.connect() as connection:
        rows = (await connection.execute(_ESCROWS)).all()
    return [EscrowReport(host=row.host, home=row.home, at=row.seen_at, entries=row.escrow) for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnProcess:
    """What a process says of itself. `id` is chance: a pid comes again."""

    id: UUID
    role: str
    host: str
    pid: int
    home: str
    key_ids: tuple[str, ...]


class RingNote:
    """A process's own note: written while it runs, withdrawn when it ends.

    Args:
        engine: the process's connections.
        own: what it says of itself.
        read_escrow: returns how many files of its escrow are sealed under each key; called in a thread.
        on_retired: told once, with the id, that the key it seals under was retired while it was cut off.

    """

    def __init__(
        self,
        engine: AsyncEngine,
        own: OwnProcess,
        read_escrow: Callable[[], Mapping[str, int]],
        on_retired: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._own = own
        self._read_escrow = read_escrow
        self._on_retired = on_retired
        self._started_at: datetime | None = None
        self._was_needed = False
        self._is_retired = False

    def complaints(self) -> list[str]:
        """Return why this process must be started again with the present ring; empty while all is well."""
        return [f"the key {self._own.key_ids[0]!r} that it seals under was retired"] if self._is_retired else []

    async def write(self) -> None:
        """Note that this process runs.

        Raises:
            what `AWAY` holds, when the database does not take it.

        """
        own = self._own
        said = {
            "id": own.id,
            "role": own.role,
            "host": own.host,
            "pid": own.pid,
            "home": own.home,
            "key_ids": list(own.key_ids),
            "escrow": json.dumps(await asyncio.to_thread(self._read_escrow)),
            "started_at": self._started_at,
            "gone": GONE_AFTER,
            "kept": _KEPT,
        }
        async with self._engine.begin() as connection:
            row = (await connection.execute(_WRITE, said)).one()
            if self._was_needed and not row.is_needed:
                # It was cut off for so long that it was taken for dead, and may have sealed since: whoever starts
                # without the key must hear of it.
                await connection.execute(_NEEDED_AGAIN, {"key_id": own.key_ids[0]})
        self._started_at = row.started_at
        if self._was_needed and not row.is_needed and not self._is_retired:
            self._is_retired = True
            self._on_retired(own.key_ids[0])
        self._was_needed |= row.is_needed

    async def keep_writing(self) -> None:
        """Note it at once and every few seconds, until cancelled; while the database is away nobody can be told."""
        while True:
            with suppress(*AWAY):
                await self.write()
            await asyncio.sleep(NOTE_EVERY)

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Keep the note for as long as a `with` block: it stands when the block begins."""
        await self.write()
        keeping = asyncio.create_task(self.keep_writing())
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    async def withdraw(self) -> None:
        """Note that this process has ended; where the database is away, that shows by itself in a minute."""
        if self._started_at is None:
            return
        self._started_at = None
        left = await asyncio.to_thread(self._read_escrow)
        try:
            async with self._engine.begin() as connection:
                if left:
                    await connection.execute(_END, {"id": self._own.id, "e": json.dumps(left)})
                else:
                    await connection.execute(_WITHDRAW, {"id": self._own.id})
        except AWAY:
            return
