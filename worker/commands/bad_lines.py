"""The bad lines of an import: the first ones on standard error, all of them in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TextIO

from worker.usecases.import_grants import BadLine

#: What a person reads before looking for what they have in common.
SHOWN: Final = 20
_BEGINNING: Final = "line "


class NotOverwrittenError(ValueError):
    """The file holds something else than the bad lines of an import."""


class BadLines:
    """Tells of bad lines, for as long as a `with` block.

    Args:
        path: where all of them are written, one `line 17: reason` after the other; None: nowhere.
        say: writes one of the first.

    Raises:
        NotOverwrittenError: when the file holds something else.
        OSError: when it cannot be written.

    """

    def __init__(self, path: Path | None, say: Callable[[str], None]) -> None:
        if path is not None and path.exists() and path.stat().st_size and not _is_ours(path):
            raise NotOverwrittenError(f"{path} holds something else than bad lines: give another file")
        self._file: TextIO | None = path.open("w", encoding="utf-8") if path is not None else None
        self._say = say
        self._told = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def tell(self, found: Iterable[BadLine]) -> None:
        """Tell of some more."""
        for bad in found:
            line = f"{_BEGINNING}{bad.number}: {bad.reason}"
            if self._file is not None:
                self._file.write(line + "\n")
            if self._told < SHOWN:
                self._say(line)
            self._told += 1

    @property
    def hidden(self) -> int:
        """Return how many were not shown."""
        return max(self._told - SHOWN, 0)


def _is_ours(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_BEGINNING)) == _BEGINNING.encode("ascii")
