"""The event loop of a worker process: a thread of its own, on which all requests and statements run.

Celery's threads pool runs tasks in threads; each hands its work to this loop and waits. The loop outlives the tasks, so
that what was sent is settled even when a ticket's thread is gone.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, Final, TypeVar

from worker.bootstrap import Container
from worker.keepers import keep
from worker.readiness import readiness

#: Seconds to wait for the loop's own end after its work is done.
_JOIN_SECONDS: Final = 5.0
#: Seconds between notes that the loop turns.
_PULSE_SECONDS: Final = 1.0
#: Seconds without a turn after which the loop is taken for stuck: a busy one turns many times a second.
STUCK_SECONDS: Final = 30.0
#: Seconds for the loop to have its dependencies asked; each of them has two.
_ASKED_SECONDS: Final = 4.0

#: Longest time, seconds, that a stopping worker goes on with what it takes from the broker: within one it takes nothing
#: more, unless the broker is away.
_TAKES_ON: Final = 5.0

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
        self._started: set[asyncio.Task[object]] = set()
        self._let_go: Future[None] = Future()  # done when nobody may be waited for any longer
        self._stops_at: float | None = None
        self._turned_at = time.monotonic()
        self._thread.start()
        self._loop.call_soon_threadsafe(self._turn)
        try:
            self.container = self.run(self._create(create))
        except BaseException:
            self._end_loop()
            raise

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run work on the loop and wait for it; called from any other thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def complaints(self) -> list[str]:
        """Return what of this process does not run any more; empty while it lives. Called from any thread."""
        stood = time.monotonic() - self._turned_at
        stuck = [f"the event loop has not turned for {stood:.0f} s"] if stood > STUCK_SECONDS else []
        return stuck + self.container.complaints()

    def checks(self) -> dict[str, str]:
        """Ask what this process depends on; called from any other thread.

        Returns for each `ok` or what is wrong with it.
        """
        asked = asyncio.run_coroutine_threadsafe(
            readiness(self.container.engine, self.container.settings.broker_url), self._loop
        )
        try:
            return asked.result(_ASKED_SECONDS)
        except TimeoutError:
            asked.cancel()
            return {"event_loop": TimeoutError.__name__}

    def _turn(self) -> None:
        self._turned_at = time.monotonic()
        self._loop.call_later(_PULSE_SECONDS, self._turn)

    def start(self, work: Coroutine[Any, Any, object], event: str) -> None:
        """Start work on the loop and do not wait for it; an error is logged under the event's name."""
        self._loop.call_soon_threadsafe(self._start, work, event)

    def _start(self, work: Coroutine[Any, Any, object], event: str) -> None:
        task = self._loop.create_task(work)
        self._started.add(task)
        task.add_done_callback(lambda done: self._ended(done, event))

    def _ended(self, task: asyncio.Task[object], event: str) -> None:
        self._started.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.container.observers.failed(event, error)

    def wait_for(self, work: Coroutine[Any, Any, object]) -> None:
        """Run work on the loop and wait for it, but no longer than a stop allows: then it goes on without us."""
        running = asyncio.run_coroutine_threadsafe(work, self._loop)
        either: tuple[Future[Any], ...] = (running, self._let_go)
        wait(either, return_when=FIRST_COMPLETED)
        if running.done():
            running.result()

    def begin_stop(self, seconds: float) -> None:
        """Stop within so long; safe in a signal handler.

        Tickets still come for a moment, until the broker's connection is closed, and each must be worked on: nobody
        else gets it. `stop_claiming` says when that is over.
        """
        if self._stops_at is None:
            self._stops_at = time.monotonic() + seconds
            self._loop.call_soon_threadsafe(self._begin_stop, seconds)

    def stop_claiming(self) -> frozenset[str]:
        """Claim nothing new from now on; returns the clients whose drains others may have to go on with."""
        return self.run(self._stop_claiming())

    def close(self, seconds: float) -> None:
        """Wait for what was sent to be settled, at most so long since the stop began, and end the loop."""
        left = seconds if self._stops_at is None else self._stops_at - time.monotonic()
        try:
            self.run(self._finish(max(left, 0.0)))
        finally:
            self._end_loop()

    def _begin_stop(self, seconds: float) -> None:
        self.container.stop_telling()
        self._loop.call_later(min(_TAKES_ON, seconds / 2), self.container.stop_claiming)
        self._loop.call_later(seconds, self._let_go.set_result, None)

    async def _stop_claiming(self) -> frozenset[str]:
        self.container.stop_claiming()
        return self.container.drains.unfinished()

    async def _create(self, create: Callable[[], Container]) -> Container:
        container = create()
        await container.ring_note.write()  # before anything is sealed
        self._keepers.add(asyncio.create_task(keep(container.observers, container.ring_note.keep_writing)))
        if container.configuration.worker.session_lock:
            await container.presence.take()
            self._keepers.add(asyncio.create_task(keep(container.observers, container.presence.keep)))
        container.rotation.settles.start()
        await container.dispatch.drain_escrow()
        self._keepers.add(asyncio.create_task(keep(container.observers, container.dispatch.keep_rescuing)))
        self._keepers.add(asyncio.create_task(keep(container.observers, container.tally.keep_writing)))
        return container

    async def _finish(self, seconds: float) -> None:
        self.container.stop_claiming()
        others = asyncio.all_tasks() - {asyncio.current_task(), *self._keepers}
        if others:
            _done, late = await asyncio.wait(others, timeout=seconds)
            await self.container.rotation.settles.keep_what_waits()
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
