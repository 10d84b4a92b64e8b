"""How long a commit may take before its tokens are brought elsewhere: one timer for all that wait."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from worker.storage.sealed_settlement import SealedSettlement


@dataclass(slots=True, eq=False)
class Wait:
    """One settlement that waits for its commit."""

    until: float
    sealed: SealedSettlement | None

    def end(self) -> None:
        """Wait no longer."""
        self.sealed = None


class Patience:
    """Tells of each settlement that has waited too long.

    All may wait equally long, so the first that came is the first that runs out, and a line of them needs one timer.

    Args:
        seconds: how long each may wait.
        run_out: told of each that did.

    """

    def __init__(self, seconds: float, run_out: Callable[[SealedSettlement], object]) -> None:
        self._seconds = seconds
        self._run_out = run_out
        self._line: deque[Wait] = deque()
        self._is_timed = False

    def begin(self, sealed: SealedSettlement) -> Wait:
        """Count a settlement's time from now on, until its wait is ended."""
        loop = asyncio.get_running_loop()
        wait = Wait(loop.time() + self._seconds, sealed)
        self._line.append(wait)
        if not self._is_timed:
            self._is_timed = True
            loop.call_at(wait.until, self._look, loop)
        return wait

    def run_out(self) -> None:
        """Tell of all that wait: there is no time left."""
        for wait in self._line:
            if wait.sealed is not None:
                self._run_out(wait.sealed)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now, line = loop.time(), self._line
        while line and (line[0].sealed is None or line[0].until <= now):
            sealed = line.popleft().sealed
            if sealed is not None:
                self._run_out(sealed)
        self._is_timed = bool(line)
        if line:
            loop.call_at(line[0].until, self._look, loop)
