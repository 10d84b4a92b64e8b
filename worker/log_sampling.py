"""Says which of many like lines are written: a provider that is down for an hour must not fill a disk.

The first of a kind in each minute are written, then one in a hundred; each tells how many were left out before it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final

#: Lines of one kind that are always written in a window.
FIRST: Final = 10
#: Seconds.
WINDOW: Final = 60.0
#: Of those after them, one in so many.
ONE_IN: Final = 100


@dataclass(slots=True)
class _Kind:
    since: float
    seen: int = 0
    left_out: int = 0


class Sampler:
    """Counts lines by kind; kinds are bounded, such as a client and a reason.

    Args:
        tick: the monotonic clock, in seconds.

    """

    def __init__(self, tick: Callable[[], float]) -> None:
        self._tick = tick
        self._kinds: dict[Hashable, _Kind] = {}

    def left_out(self, kind: Hashable) -> int | None:
        """Tell whether a line of a kind is to be written.

        Returns how many were left out since the last one that was; None: this one is left out.
        """
        now = self._tick()
        found = self._kinds.get(kind)
        if found is None:
            found = self._kinds[kind] = _Kind(since=now)
        elif now - found.since >= WINDOW:
            found.since, found.seen = now, 0
        found.seen += 1
        if found.seen > FIRST and (found.seen - FIRST) % ONE_IN:
            found.left_out += 1
            return None
        left_out, found.left_out = found.left_out, 0
        return left_out
