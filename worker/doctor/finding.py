"""What doctor finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"  #: it works, and may not go on working
    ERROR = "error"  #: it does not work, or tokens may be lost


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at. Everything but `ok` has its remedy."""

    check: str
    level: Level
    found: str
    remedy: str | None = None


def ok(check: str, found: str) -> Finding:
    """Return that something is as it should be."""
    return Finding(check=check, level=Level.OK, found=found)


def warning(check: str, found: str, remedy: str) -> Finding:
    """Return that something works, and may not go on working."""
    return Finding(check=check, level=Level.WARNING, found=found, remedy=remedy)


def error(check: str, found: str, remedy: str) -> Finding:
    """Return that something does not work, or may cost tokens."""
    return Finding(check=check, level=Level.ERROR, found=found, remedy=remedy)
