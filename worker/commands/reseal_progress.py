"""How far re-sealing has come: a bar on a terminal, a line now and then anywhere else; both on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from worker.commands.import_progress import PLAIN_EVERY


class ResealProgress:
    """Shows it for as long as a `with` block.

    Args:
        total: grants that there are; the other tables are small.
        tick: the monotonic clock, in seconds.

    """

    def __init__(self, total: int, tick: Callable[[], float]) -> None:
        console = Console(stderr=True)
        self._bar = (
            Progress(
                BarColumn(),
                TextColumn("{task.description}"),
                TaskProgressColumn(),
                TimeRemainingColumn(),
                console=console,
                transient=True,
            )
            if console.is_terminal and not console.is_dumb_terminal
            else None
        )
        self._task = self._bar.add_task("", total=max(total, 1)) if self._bar is not None else None
        self._total = total
        self._tick = tick
        self._next = tick() + PLAIN_EVERY

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, table: str, looked_at: int, resealed: int) -> None:
        """Show how far a pass has come in a table, and how many rows are sealed anew in all."""
        figures = f"{table}: {looked_at:,} looked at, {resealed:,} sealed anew in all"
        if self._bar is not None and self._task is not None:
            completed = looked_at if table == "grants" else self._total
            self._bar.update(self._task, completed=completed, description=figures)
        elif self._tick() >= self._next:
            self._next = self._tick() + PLAIN_EVERY
            sys.stderr.write(f"{figures}\n")
