"""Which entries of the escrow could not be stored, and when each is tried again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

#: A refused entry is passed over for one drain, then for two, four and so on up to here: a minute or two of ticks.
_LONGEST_REST: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refusal:
    times: int
    again_at: int  #: the number of the drain that tries it again


class Refusals:
    """Which entries could not be stored, and when each is tried again; counted in drains, which ticks make."""

    def __init__(self) -> None:
        self._drains = 0
        self._refused: dict[str, _Refusal] = {}
        self._unanswered: set[str] = set()

    def begin(self) -> None:
        """Count a drain."""
        self._drains += 1

    def in_turn(self, names: Iterable[str]) -> Sequence[str]:
        """Return what this drain tries; what the database did not answer for comes last, for it may do so again."""
        resting = {name for name, refusal in self._refused.items() if refusal.again_at > self._drains}
        return sorted((name for name in names if name not in resting), key=lambda name: name in self._unanswered)

    def refused(self, name: str) -> None:
        """Note an entry that cannot be stored as it is."""
        known = self._refused.get(name)
        times = known.times + 1 if known is not None else 1
        self._refused[name] = _Refusal(times=times, again_at=self._drains + min(2**times, _LONGEST_REST))

    def unanswered(self, name: str) -> None:
        """Note an entry for which the database did not answer."""
        self._unanswered.add(name)

    def forget(self, name: str) -> None:
        """Forget an entry that is stored."""
        self._refused.pop(name, None)
        self._unanswered.discard(name)

    def count(self, waiting: Collection[str]) -> int:
        """Return how many of those that wait were refused, and forget those that are gone."""
        for name in {*self._refused, *self._unanswered} - set(waiting):
            self.forget(name)
        return len(self._refused)
