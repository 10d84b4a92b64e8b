"""The event loop of a worker process: a thread of its own, on which all requests and statements run.

Celery's threads pool runs tasks in threads; each hands its work to this loop and waits. The loop outlives the tasks, so
that what was sent is settled even when a ticket's thread is gone.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from worker.bootstrap import Container

#: Seconds to wait for the loop's own end after its work is done.
_JOIN_SECONDS: Final = 5.0

T = TypeVar("T")


class Runtime:
    """One event loop in one thread, with the process's container on it.

    Args:
        create: makes the container; called on the loop.

    """

    def __init__(self, create: Callable[[], Container]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="event-loop", daemon=True)
        self._keepers: set[asyncio.Task[None]] = set()
        self._thread.start()
        try:
            self.container = self.run(self._create(create))
        except BaseException:
            self._end_loop()
            raise

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run work on the loop and wait for it; called from any other thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def stop_claiming(self) -> None:
        """Claim nothing new from now on; safe to call from a signal handler."""
        self._loop.call_soon_threadsafe(self.container.drains.stop)

    def close(self, seconds: float) -> None:
        """Wait for what was sent to be settled, at most so long, and end the loop."""
        try:
            self.run(self._finish(seconds))
        finally:
            self._end_loop()

    async def _create(self, create: Callable[[], Container]) -> Container:
        container = create()
        if container.configuration.worker.session_lock:
            await container.presence.take()
            self._keepers.add(asyncio.create_task(container.presence.keep()))
        await container.dispatch.drain_escrow()
        self._keepers.add(asyncio.create_task(container.dispatch.keep_rescuing()))
        return container

    async def _finish(self, seconds: float) -> None:
        self.container.drains.stop()
        others = asyncio.all_tasks() - {asyncio.current_task(), *self._keepers}
        if others:
            _done, late = await asyncio.wait(others, timeout=seconds)
            for task in late:
                task.cancel()  # each says what it could not finish, a token that could not be stored above all
            await asyncio.gather(*late, return_exceptions=True)
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await self.container.close()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_JOIN_SECONDS)
        if not self._thread.is_alive():
            self._loop.close()
