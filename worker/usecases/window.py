"""The places for requests in flight of one process, shared by all its drains so that no client takes them all."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

#: A client may have so many times the places that it leaves free: one alone gets four fifths of them, and the next one
#: four fifths of the rest.
SHARE: Final = 4
#: The last tenth of the places is for clients that have next to none: however many others wait for slow answers, a
#: further client begins at once.
RESERVED: Final = 10
#: So many places a client may have of the last tenth, where that is more than one.
LEAST: Final = 2


@dataclass(slots=True, kw_only=True)
class Window:
    """The places of one process."""

    limit: int
    _taken: int = 0
    _held: Counter[str] = field(default_factory=Counter)
    _freed: asyncio.Event = field(default_factory=asyncio.Event)

    def room(self, client: str) -> int:
        """Return how many more places a client may take now."""
        return room(limit=self.limit, free=self.limit - self._taken, held=self._held[client])

    def take(self, client: str, places: int) -> None:
        """Take places for a client."""
        self._taken += places
        self._held[client] += places

    def give_back(self, client: str, places: int = 1) -> None:
        """Give a client's places back, and wake who waits for one."""
        self._taken -= places
        self._held[client] -= places
        if not self._held[client]:
            del self._held[client]
        self._freed.set()

    async def wait_for_room(self, client: str) -> None:
        """Return once a client may take a place."""
        while self.room(client) <= 0:
            self._freed.clear()
            await self._freed.wait()


def room(*, limit: int, free: int, held: int) -> int:
    """Return how many of the free places a client may take.

    Args:
        limit: all places.
        free: those that nobody has.
        held: those that this client has.

    """
    reserved = limit // RESERVED
    share = min(math.ceil((SHARE * free - held) / (1 + SHARE)), free - reserved)
    return max(0, share, min(free, min(LEAST, max(reserved, 1)) - held))
