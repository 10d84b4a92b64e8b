"""Arrays as PostgreSQL writes them (its manual, section 8.15.2): a column of a whole batch in one parameter.

The driver writes them as well, and looks for the type of every element anew: four times the work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID


def array_literal(sql_type: str, values: Iterable[Any]) -> str:
    """Return the text of an array, to be cast to it.

    Args:
        sql_type: of the elements: `uuid`, `bigint`, `bytea`, `timestamptz`, `boolean`, `text` or `jsonb` as text.
        values: the elements; None is NULL.

    """
    write = _WRITERS[sql_type]
    return "{" + ",".join("NULL" if value is None else write(value) for value in values) + "}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _bytes(value: bytes) -> str:
    return f'"\\\\x{value.hex()}"'


def _instant(value: datetime) -> str:
    return f'"{value.isoformat()}"'


def _number(value: int) -> str:
    return str(int(value))


def _truth(value: bool) -> str:
    return "t" if value else "f"


def _id(value: UUID) -> str:
    return str(value)


_WRITERS: Final[Mapping[str, Callable[[Any], str]]] = {
    "uuid": _id,
    "bigint": _number,
    "boolean": _truth,
    "bytea": _bytes,
    "timestamptz": _instant,
    "text": _quoted,
    "jsonb": _quoted,
}
