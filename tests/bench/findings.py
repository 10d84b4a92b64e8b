"""What one part of the bench found: a table for people, and numbers with names."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under headings; columns of numbers stand to the right."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the table as text."""
        cells = [self.headings, *self.rows] if any(self.headings) else list(self.rows)
        widths = [max(len(row[column]) for row in cells) for column in range(len(self.headings))]
        words = [not any(row[column][:1].isdigit() for row in self.rows) for column in range(len(self.headings))]
        words[:1] = [True]
        shown = [
            "  ".join(
                cell.ljust(width) if is_words else cell.rjust(width)
                for cell, width, is_words in zip(row, widths, words, strict=True)
            ).rstrip()
            for row in cells
        ]
        rule = "  ".join("-" * width for width in widths)
        body = [shown[0], rule, *shown[1:]] if any(self.headings) else shown
        return [self.title, "=" * len(self.title), *body, *self.notes, ""]

    def markdown(self) -> list[str]:
        """Return rows and headings as a Markdown table."""
        rows = (self.headings, tuple("---" for _ in self.headings), *self.rows)
        return [f"| {' | '.join(row)} |" for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What a part found.

    Attributes:
        part: its name.
        tables: for the report.
        facts: single numbers by name, for the reach.
        data: everything that was measured, for `report.json` and the plots.

    """

    part: str
    tables: tuple[Table, ...] = ()
    facts: dict[str, float] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Return a median, with the least and the greatest value where there are several."""
    median = f"{statistics.median(values):,.{digits}f}"
    if len(values) == 1:
        return median
    return f"{median} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"
