"""How far an import has come: a bar on a terminal, a line now and then anywhere else; both on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType
from typing import Final, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from worker.usecases.import_grants import Tally

#: Seconds between two lines in a log.
PLAIN_EVERY: Final = 10.0


class ImportProgress(Protocol):
    """Shows how far an import has come, for as long as a `with` block."""

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        ...

    def say(self, line: str) -> None:
        """Write a line that stays."""
        ...

    def show(self, tally: Tally, bytes_read: int | None) -> None:
        """Show what has come of it so far, and how much of the file has been read."""
        ...


def import_progress(size: int | None, tick: Callable[[], float]) -> ImportProgress:
    """Return what suits standard error.

    Args:
        size: bytes that there are to be read, where that is known.
        tick: the monotonic clock, in seconds.

    """
    console = Console(stderr=True)
    is_bar = console.is_terminal and not console.is_dumb_terminal
    return _Bar(console, size) if is_bar else PlainProgress(size, tick)


class _Bar:
    """A bar that moves, with what stays above it."""

    def __init__(self, console: Console, size: int | None) -> None:
        remaining = [TaskProgressColumn(), TimeRemainingColumn()] if size else [TimeElapsedColumn()]
        self._progress = Progress(
            BarColumn(), TextColumn("{task.description}"), *remaining, console=console, transient=True
        )
        self._task = self._progress.add_task("", total=size)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, line: str) -> None:
        self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def show(self, tally: Tally, bytes_read: int | None) -> None:
        # Drawn at once: it is called once a batch, and batches may follow each other faster than the bar draws itself.
        self._progress.update(self._task, completed=bytes_read or 0, description=_figures(tally), refresh=True)


class PlainProgress:
    """A line now and then.

    Args:
        size: bytes that there are to be read, where that is known.
        tick: the monotonic clock, in seconds.

    """

    def __init__(self, size: int | None, tick: Callable[[], float]) -> None:
        self._size = size
        self._tick = tick
        self._next = tick() + PLAIN_EVERY

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def say(self, line: str) -> None:
        """Write a line."""
        sys.stderr.write(line + "\n")

    def show(self, tally: Tally, bytes_read: int | None) -> None:
        """Write how far it has come, unless it was written a moment ago."""
        if self._tick() < self._next:
            return
        self._next = self._tick() + PLAIN_EVERY
        share = f" ({bytes_read / self._size:.0%})" if bytes_read is not None and self._size else ""
        self.say(f"{_figures(tally)}{share}")


def _figures(tally: Tally) -> str:
    there = f", {tally.already_there:,} there already" if tally.already_there else ""
    bad = f", {tally.bad:,} bad" if tally.bad else ""
    return f"{tally.lines:,} lines: {tally.taken:,} adopted{there}{bad}"
