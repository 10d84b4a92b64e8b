"""Reading and checking in a thread what the event loop then stores.

One is done while the other waits for the database, and a pipe that brings nothing keeps nobody from stopping.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Generic, Self, TypeVar

T = TypeVar("T")

#: Items that are made before they are asked for.
_AHEAD: Final = 2


@dataclass(frozen=True, slots=True)
class _End:
    error: BaseException | None


class ReadAhead(Generic[T]):
    """Gives what an iterator makes to an `async for` on the running loop.

    Args:
        items: runs in a thread of its own; what it raises is raised here, behind the items before.

    """

    def __init__(self, items: Iterator[T]) -> None:
        self._items = items
        self._loop = asyncio.get_running_loop()
        self._read: asyncio.Queue[T | _End] = asyncio.Queue()
        self._room = threading.Semaphore(_AHEAD)
        # Not waited for at the end: it may be reading from a pipe that says nothing.
        threading.Thread(target=self._read_all, name="read-ahead", daemon=True).start()

    def stop(self) -> None:
        """End behind what has been made."""
        self._read.put_nowait(_End(None))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        found = await self._read.get()
        if isinstance(found, _End):
            raise found.error or StopAsyncIteration
        self._room.release()
        return found

    def _read_all(self) -> None:
        found: T | _End
        while True:
            self._room.acquire()
            try:
                found = next(self._items, _End(None))
            except BaseException as error:  # noqa: BLE001 -- handed over as it is
                found = _End(error)
            try:
                self._loop.call_soon_threadsafe(self._read.put_nowait, found)
            except RuntimeError:  # the loop is closed: nobody waits for it any more
                return
            if isinstance(found, _End):
                return
