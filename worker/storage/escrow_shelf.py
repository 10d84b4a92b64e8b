"""Entries of one kind that wait in every home of the escrow: put there, stored out of it in their turn, removed.

An entry that cannot be read, or that the database refuses, stays where it is: it is told, counted and tried again with
growing waits, and holds up none of the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

from redis.exceptions import RedisError

from worker.storage.away import AWAY
from worker.storage.escrow_homes import HOME_AWAY, EscrowHome
from worker.storage.escrow_refusals import Refusals

#: So many entries in a row that the database did not answer for: it is away, and the others would fare no better.
_AWAY_AFTER: Final = 2


class EscrowShelf:
    """All homes together: an entry is kept when one of them has it.

    Args:
        homes: where entries can wait.
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
        self._refusals = Refusals()

    async def put(self, name: str, entry: str) -> bool:
        """Keep an entry in every home that takes it; tell whether one did."""
        return any(await asyncio.gather(*(self._put(home, name, entry) for home in self._homes)))

    async def remove(self, name: str) -> None:
        """Forget an entry."""
        for home in self._homes:
            try:
                await home.remove(name)
            except HOME_AWAY as error:
                self._on_failure("remove", error)
        self._refusals.forget(name)

    async def drain(self, store: Callable[[str, str], Awaitable[None]]) -> int:
        """Store what waits; what cannot be stored yet goes on waiting. Returns how many were refused.

        Args:
            store: stores an entry, given its name and text; safe to repeat, and raises whatever keeps it from it.

        """
        waiting: set[str] = set()
        self._refusals.begin()
        for home in self._homes:
            try:
                names = await home.names()
                waiting.update(names)
                await self._drain_home(home, self._refusals.in_turn(names), store)
            except (*HOME_AWAY, *AWAY) as error:
                self._on_failure("drain", error)  # the other homes are drained all the same
        return self._refusals.count(waiting)

    async def depth(self) -> int:
        """Return how many entries wait; one that waits in two homes counts once."""
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

    async def _put(self, home: EscrowHome, name: str, entry: str) -> bool:
        try:
            await home.put(name, entry)
        except HOME_AWAY as error:
            self._on_failure("put", error)
            return False
        return True

    async def _drain_home(
        self, home: EscrowHome, names: Iterable[str], store: Callable[[str, str], Awaitable[None]]
    ) -> None:
        unanswered = 0
        for name in names:
            entry = await self._read(home, name)
            if entry is None:
                continue
            try:
                await store(name, entry)
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
                await self.remove(name)

    async def _read(self, home: EscrowHome, name: str) -> str | None:
        """Return an entry, or None where there is none to be had."""
        try:
            return await home.read(name)
        except RedisError:
            raise
        except Exception as error:  # noqa: BLE001 -- damaged, or of another version: whoever can read it may want it
            self._refuse(name, error)
            return None

    def _refuse(self, name: str, error: Exception) -> None:
        self._refusals.refused(name)
        self._on_refusal(name, error)
