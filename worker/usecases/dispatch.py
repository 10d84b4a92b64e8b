"""Beat's tick: drain the escrow, rescue what a dead worker left, scan what is due, and say which tickets to send.

Any number of beats may tick: a tick changes nothing that a second one would change again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

from sqlalchemy.ext.asyncio import AsyncEngine

from worker.domain.dispatch import Ticket, tickets
from worker.oauth.client import Client
from worker.storage.away import AWAY
from worker.storage.client_status import ClientStatuses
from worker.storage.escrow import Escrow, EscrowDrained
from worker.storage.forecasts import reckon
from worker.storage.grant_counts import fold_grant_counts
from worker.storage.prune import prune
from worker.storage.refresh_hours import fold_hours
from worker.storage.rescue import Rescued, rescue_abandoned_leases
from worker.storage.scan import count_due
from worker.usecases.store_consent import ConsentStore

#: Seconds between a worker's own looks for what dead workers left; ticks look too, while the broker brings them.
RESCUE_EVERY: Final = 2.0
#: Seconds between a web process's looks for what it could not store itself, of consents and of refreshes on demand.
DRAIN_EVERY: Final = 5.0


class DispatchObserver(Protocol):
    """Is told what a tick found."""

    def scanned(self, *, due: int, seconds: float) -> None:
        """Hear how much was found due and how long the scan took."""

    def rescued(self, rescued: Rescued) -> None:
        """Hear of leases that were ended for dead workers."""

    def escrow_drained(self, drained: EscrowDrained, depth: int) -> None:
        """Hear what became of tokens that waited outside the database, and how many still do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """Makes the tickets. `tick` is the monotonic clock in seconds, `draw` is chance in [0, 1)."""

    engine: AsyncEngine
    escrow: Escrow
    consents: ConsentStore
    statuses: ClientStatuses
    clients: Mapping[str, Client]
    observer: DispatchObserver
    tick: Callable[[], float]
    draw: Callable[[], float]
    keep_rotations: timedelta
    keep_audit: timedelta
    keep_events: timedelta

    async def dispatch(self) -> list[Ticket]:
        """Drain the escrow, rescue, scan, and return the tickets that the due grants call for."""
        await self.rescue()
        await self.statuses.release_outworn_brakes()
        started = self.tick()
        due = await count_due(self.engine, list(self.clients))
        self.observer.scanned(due=sum(found.count for found in due), seconds=self.tick() - started)
        return tickets(due)

    async def rescue(self) -> None:
        """Drain the escrow, and put in doubt what dead workers left."""
        # The escrow first: what waits there is an answer that was read, and ends a doubt instead of beginning one.
        await self.drain_escrow()
        facts = {name: client.provider.facts for name, client in self.clients.items()}
        rescued = await rescue_abandoned_leases(self.engine, facts, self.draw)
        if rescued.leases:
            self.observer.rescued(rescued)

    async def keep_rescuing(self) -> None:
        """Rescue now and again until cancelled: a grace of half a minute does not wait for a broker to come back."""
        while True:
            await asyncio.sleep(RESCUE_EVERY)
            try:
                await self.rescue()
            except AWAY:
                continue

    async def keep_draining(self) -> None:
        """Drain the escrow now and again until cancelled: for a process whose own folder nobody else may see."""
        while True:
            await self.drain_escrow()
            await asyncio.sleep(DRAIN_EVERY)

    async def drain_escrow(self) -> None:
        """Store the tokens that waited while the database was away, of rotations and of consents."""
        drained = await self.escrow.drain(self.engine)
        drained.refused += await self.consents.store_kept()
        depth = await self.escrow.depth() + await self.consents.escrow.depth()
        self.observer.escrow_drained(drained, depth)

    async def reckon(self) -> None:
        """Add up the hours that are over, and forecast what is to come. Any number may do so."""
        await fold_hours(self.engine)
        ending = [name for name, client in self.clients.items() if client.provider.facts.has_fixed_end]
        await reckon(self.engine, ending)

    async def prune(self) -> int:
        """Remove what nobody needs any more: used authorization requests, old lineage. Returns how many rows.

        What the counts of grants are made of is folded, too.
        """
        await fold_grant_counts(self.engine)
        return await prune(
            self.engine,
            keep_rotations=self.keep_rotations,
            keep_audit=self.keep_audit,
            keep_events=self.keep_events,
        )
