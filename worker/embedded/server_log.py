"""The log file of an embedded server, and quoting its end in an error."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

_QUOTED_LINES: Final = 12
"""Enough for a server's complaint and its hint."""

_READ_BYTES: Final = 64 * 1024
"""The end of the log that is looked at; a start writes a few kilobytes."""


@dataclass(frozen=True, slots=True)
class ServerLog:
    """A server's output. One file per start; the one of the start before stays beside it as `….1`."""

    path: Path

    def begin(self) -> None:
        """Put the log of the start before aside."""
        if self.path.exists():
            self.path.replace(self.path.with_name(f"{self.path.name}.1"))

    def size(self) -> int:
        """Return its length in bytes, 0 while there is none."""
        return self.path.stat().st_size if self.path.exists() else 0

    def since(self, position: int) -> str:
        """Return what was written after `position` (bytes), at most the last 64 KiB of it."""
        if not self.path.exists():
            return ""
        with self.path.open("rb") as file:
            file.seek(max(position, self.size() - _READ_BYTES))
            return file.read().decode("utf-8", errors="replace")

    def ending(self) -> str:
        """Return the last lines and the path, to stand at the end of an error message."""
        lines = self.since(0).splitlines()[-_QUOTED_LINES:]
        quoted = "\n".join(f"  {line}" for line in lines) if lines else "  (nothing)"
        return f"its log {self.path} ends with\n{quoted}"
