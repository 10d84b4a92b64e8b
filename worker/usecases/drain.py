"""Drain one client: work through its due grants with a sliding window of requests in flight.

A grant is claimed only when its request is about to leave. There are no batches to wait for: each free place is filled
as soon as it is free, so one slow answer delays nobody.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from worker.domain.grant import ClaimedGrant
from worker.domain.settlement import HandBack
from worker.oauth.client import Client
from worker.storage.claim import Claimed, Claims
from worker.storage.client_status import ClientStatuses
from worker.storage.settle_queue import SettleQueue
from worker.usecases.observer import RotationObserver
from worker.usecases.rotate import Rotation
from worker.usecases.unreadable import UNREADABLE, lacks_a_key, put_off
from worker.usecases.window import Window

#: From one claim to the next, seconds: places that fall free meanwhile are filled by one. While it is made, no other
#: process claims of the same client.
CLAIM_PAUSE: Final = 0.012
#: Grants in one claim at most. Those that leave together are answered together, and then the last of them waits for all
#: others to be read and stored: small claims in short turns keep requests, answers and commits an even stream.
CLAIM_LIMIT: Final = 24
#: So many requests are begun in one turn of the event loop: answers that arrive meanwhile must not wait for more.
STARTS_PER_TURN: Final = 4
#: A turn of the event loop that took more of the processor than this, seconds, has enough to do: what is in flight is
#: read and stored before anything new is begun. An answer takes some four turns from the socket to its commit.
BUSY_TURN: Final = 0.004
#: With requests still in flight and nothing due, look again after this many seconds even without a new ticket.
LOOK_AGAIN: Final = 1.0


@dataclass(slots=True, kw_only=True)
class DrainSupplies:
    """What a drain needs; one for the whole process."""

    claims: Claims
    rotation: Rotation
    settles: SettleQueue
    statuses: ClientStatuses
    observer: RotationObserver
    window: Window
    lease: timedelta
    tick: Callable[[], float]
    draw: Callable[[], float]
    processor: Callable[[], float]  #: seconds of processor time that this thread has used
    on_error: Callable[[str, BaseException], None]
    opened: set[str] = field(default_factory=set)  #: the clients of which the key ring has opened a token


class Drain:
    """One client's drain in one process.

    Args:
        client: whose grants are worked through.
        supplies: the process's.

    """

    def __init__(self, client: Client, supplies: DrainSupplies) -> None:
        self._client = client
        self._supplies = supplies
        self._in_flight: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._wants_place = False
        self._place_came = False
        self._stopping = False
        self._reached: datetime | None = None
        self._began_at = 0.0

    def nudge(self) -> None:
        """Look for due grants again: another ticket came while this drain was at work."""
        self._wake.set()

    def stop(self) -> None:
        """Claim nothing new; what was sent is finished."""
        self._stopping = True
        self._wake.set()

    async def work(self, seconds: float) -> int:
        """Claim and send until nothing is due or the time is up; returns how many grants were claimed."""
        deadline = self._supplies.tick() + seconds
        claimed_in_all = 0
        while not self._stopping and self._supplies.tick() < deadline:
            if self._in_flight and await self._is_busy():
                await asyncio.sleep(CLAIM_PAUSE)
                continue
            began = self._supplies.tick()
            self._listen()  # what comes while the claim is made is heard after it
            claimed = await self._claim()
            claimed_in_all += len(claimed.grants)
            if claimed.more or claimed.held:
                await asyncio.sleep(max(0.0, began + CLAIM_PAUSE - self._supplies.tick()))
            if claimed.more:
                continue
            if self._in_flight or _soon(claimed.wait):
                # Whether a place falls free matters only where places were what was lacking.
                await self._pause(claimed.wait, wants_place=claimed.held)
            elif not self._wake.is_set():
                break  # nothing due, or not for a while: a later tick sends another ticket
        return claimed_in_all

    def _listen(self) -> None:
        self._wake.clear()
        self._wants_place = self._place_came = False

    async def finish(self) -> None:
        """Wait until everything that was sent is read and settled."""
        # Shielded from a cancelled ticket: a request that was sent is always read and settled.
        while self._in_flight:
            await asyncio.shield(asyncio.wait(self._in_flight))

    async def _claim(self) -> Claimed:
        window, name = self._supplies.window, self._client.name
        await window.wait_for_room(name)
        # Taken before the claim is asked for, so that two drains cannot claim into the same place.
        places = min(window.room(name), self._client.limits.max_in_flight - len(self._in_flight), CLAIM_LIMIT)
        if places <= 0 or self._stopping:
            return Claimed(held=True)
        window.take(name, places)
        claimed = Claimed()
        try:
            claimed = await self._supplies.claims.claim_due(
                name,
                limits=self._client.limits,
                free=places,
                lease=self._supplies.lease,
                since=self._place_in_line(),
            )
        finally:
            window.give_back(name, places - len(claimed.grants))
        self._reached = claimed.reached if claimed.more else None
        if claimed.grants:
            self._supplies.opened.add(name)
        await self._start(claimed)  # before anything else can fail: their leases are running
        if claimed.unreadable:
            await self._put_off(claimed)
        return claimed

    def _place_in_line(self) -> datetime | None:
        """Return where the claim before ended, for a while: what was passed over since then is looked for after it."""
        now = self._supplies.tick()
        if self._reached is None or now - self._began_at > LOOK_AGAIN:
            self._reached, self._began_at = None, now
        return self._reached

    async def _start(self, claimed: Claimed) -> None:
        left = deque(claimed.grants)
        try:
            while left:
                for _ in range(min(STARTS_PER_TURN, len(left))):
                    self._begin(left.popleft())
                await asyncio.sleep(0)
        finally:
            # Whatever ended this: their leases are running, and their spend is recorded.
            for grant in left:
                self._begin(grant)

    def _begin(self, grant: ClaimedGrant) -> None:
        task = asyncio.create_task(self._rotate(grant))
        self._in_flight.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        self._hear_of_place()
        if not self._in_flight:
            self._wake.set()

    def _hear_of_place(self) -> None:
        self._place_came = True
        if self._wants_place:
            self._wake.set()

    async def _is_busy(self) -> bool:
        """Tell whether the event loop has as much to do as it can do soon."""
        began = self._supplies.processor()
        await asyncio.sleep(0)
        return self._supplies.processor() - began > BUSY_TURN

    async def _rotate(self, grant: ClaimedGrant) -> None:
        try:
            await self._supplies.rotation.rotate(grant, self._client, self._give_place_back)
        except Exception as error:  # noqa: BLE001 -- one grant's trouble must not end the others; its lease and spend record tell the rest
            self._supplies.on_error("rotation_failed", error)

    def _give_place_back(self) -> None:
        # Places are for requests; while an answer is being stored, the next request may be under way.
        self._supplies.window.give_back(self._client.name)
        self._hear_of_place()

    async def _pause(self, wait: timedelta | None, *, wants_place: bool) -> None:
        seconds = LOOK_AGAIN if wait is None else min(wait.total_seconds(), LOOK_AGAIN)
        self._wants_place = wants_place
        if wants_place and self._place_came:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _put_off(self, claimed: Claimed) -> None:
        supplies = self._supplies
        ring_is_wrong = lacks_a_key(claimed, has_opened=self._client.name in supplies.opened)
        settling = []
        for unreadable in claimed.unreadable:
            supplies.observer.unreadable(self._client.name, unreadable.lease.grant_id, unreadable.error)
            settlement = HandBack(cause=UNREADABLE) if ring_is_wrong else put_off(unreadable, supplies.draw())
            settling.append(supplies.settles.settle(unreadable.lease, settlement))
        for settled in await asyncio.gather(*settling, return_exceptions=True):
            if isinstance(settled, Exception):
                supplies.on_error("put_off_failed", settled)
        if ring_is_wrong and await supplies.statuses.open_breaker(self._client.name, UNREADABLE):
            supplies.observer.breaker_changed(self._client.name, is_open=True, reason=UNREADABLE.reason)


def _soon(wait: timedelta | None) -> bool:
    return wait is not None and wait.total_seconds() <= LOOK_AGAIN


class Drains:
    """All drains of one process: at most one per client; a further ticket for the same client nudges it."""

    def __init__(self, supplies: DrainSupplies) -> None:
        self._supplies = supplies
        self._running: dict[str, Drain] = {}
        self._stopping = False
        self._unfinished: set[str] = set()

    async def drain(self, client: Client, seconds: float) -> int:
        """Do what a ticket asks for; returns how many grants were claimed."""
        running = self._running.get(client.name)
        if self._stopping:
            self._unfinished.add(client.name)
            return 0
        if running is not None:
            running.nudge()
            return 0
        drain = self._running[client.name] = Drain(client, self._supplies)
        try:
            claimed = await drain.work(seconds)
        finally:
            # From here on another ticket may begin anew: one slow answer must not hold up what falls due meanwhile.
            del self._running[client.name]
            await drain.finish()
        return claimed

    def stop(self) -> None:
        """Claim nothing new in any drain; they end when what was sent is settled."""
        self._stopping = True
        self._unfinished.update(self._running)
        for drain in self._running.values():
            drain.stop()

    def unfinished(self) -> frozenset[str]:
        """Return the clients whose drains were stopped, or not begun any more: others may have to go on with them."""
        return frozenset(self._unfinished)
