"""Who was given which access token: written into the audit log once a second, for asking must not wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from worker.domain.audit import Act, Actor, ActOutcome, AuditEntry
from worker.storage.audit_log import AuditLog
from worker.storage.away import AWAY

#: Seconds for which what is the same is counted in one entry; so much is lost where the process is killed.
WRITTEN_EVERY: Final = 1.0
#: Entries that wait while the database is away; without it no token is given either, so this is more than ever come.
MOST_WAITING: Final = 100_000
#: Entries in one transaction: some milliseconds.
_AT_ONCE: Final = 1_000

_What = tuple[Actor, str | None, UUID | None, ActOutcome]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAudit:
    """Counts in memory and writes down. `dropped` is told how many entries could not be kept."""

    log: AuditLog
    dropped: Callable[[int], None]
    _counts: dict[_What, int] = field(default_factory=dict, init=False)
    _writing: set[asyncio.Task[None]] = field(default_factory=set, init=False)
    _closing: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def note(self, actor: Actor, *, client: str | None, grant_id: UUID | None, outcome: ActOutcome) -> None:
        """Count that somebody has asked for a grant's access token, and what came of it."""
        what = (actor, client, grant_id, outcome)
        if what not in self._counts and len(self._counts) >= MOST_WAITING:
            self.dropped(1)
            return
        self._counts[what] = self._counts.get(what, 0) + 1
        if not self._writing:
            self._writing.add(asyncio.create_task(self._write_soon()))

    async def close(self) -> None:
        """Write down what is counted."""
        self._closing.set()
        await asyncio.gather(*self._writing)
        await self._write()
        if self._counts:
            self.dropped(len(self._counts))

    async def _write_soon(self) -> None:
        try:
            while self._counts and not self._closing.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), WRITTEN_EVERY)
                await self._write()
        finally:
            # In the same step as the last look at what is counted: a callback would come later, and what is noted
            # between the two would find nobody to write it, and nobody would be told to.
            self._writing.clear()

    async def _write(self) -> None:
        counted = dict(self._counts)
        for begin in range(0, len(counted), _AT_ONCE):
            some = dict(list(counted.items())[begin : begin + _AT_ONCE])
            entries = [
                AuditEntry(
                    actor=actor,
                    act=Act.ACCESS_TOKEN_GIVEN,
                    outcome=outcome,
                    client=client,
                    grant_id=grant_id,
                    count=count,
                )
                for (actor, client, grant_id, outcome), count in some.items()
            ]
            try:
                await self.log.write(*entries)
            except AWAY:
                return  # they wait for the next time
            # Only what is written: others may have been counted meanwhile.
            for what, count in some.items():
                self._counts[what] -= count
                if not self._counts[what]:
                    del self._counts[what]
