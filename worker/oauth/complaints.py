"""What is wrong with a table of the configuration, in words: which table, which key, and what would be right.

No message repeats a value: it may be a secret in the wrong place.
"""

from __future__ import annotations

import difflib
import inspect
import re
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

#: Tables within tables within tables: deeper ones are nobody's.
_DEEPEST: Final = 3
#: Names that a message lists where none is close: the catalogue alone has too many for one line.
_NAMES_SHOWN: Final = 12

#: By pydantic's kind of error: what would be right.
_WANTED: Final[Mapping[str, str]] = {
    "string_type": "must be a text in quotes",
    "string_too_short": "must not be empty",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number, or a rate such as 10/s",
    "float_parsing": "must be a number, or a rate such as 10/s",
    "finite_number": "must be a number that is not infinite",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "tuple_type": 'must be a list, such as ["a", "b"]',
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "time_delta_type": "must be a duration such as 30s, 10m or 24h",
    "time_delta_parsing": "must be a duration such as 30s, 10m or 24h",
    "is_instance_of": "must be a text in quotes",
    "date_type": "must be a date such as 2026-11-24",
    "date_from_datetime_parsing": "must be a date such as 2026-11-24",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
}
#: A parameter may be any of these, and pydantic complains of each.
_PARAMETER_KINDS: Final = frozenset({"str", "bool", "int"})
_QUOTED: Final = re.compile(r"'([^']*)'")


def complaints(error: ValidationError, where: str, model: type[BaseModel]) -> str:
    """Return everything that is wrong with a table, in one line.

    Args:
        error: pydantic's.
        where: the table's name.
        model: what the table should be.

    """
    found = [_complaint(one, where, model) for one in error.errors(include_url=False)]
    line, table = "", ""
    for header, text in dict.fromkeys(found):
        line += f"{'; ' if line else ''}{header if header != table else ''}{text}"
        table = header
    return line


def nearest(name: str, known: Iterable[str]) -> str:
    """Return what to add to a message about an unknown name: the nearest known one, or all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f" (did you mean {close[0]!r}?)"
    more = ", …" if len(names) > _NAMES_SHOWN else ""
    return f" (known: {', '.join(names[:_NAMES_SHOWN])}{more})" if names else ""


def _complaint(found: ErrorDetails, where: str, model: type[BaseModel]) -> tuple[str, str]:
    """Return the table that is meant and what is wrong in it."""
    place = found["loc"][:-1] if _is_one_of_several(found) else found["loc"]
    header, rest, table = f"[{where}] ", place, model
    listed = _list_of_tables(place, model)
    if listed is not None:
        # As it is written in the file, and counted as people count.
        key, number, table = listed
        header, rest = f"[[{where}.{key}]] number {number + 1}: ", place[2:]
    key = _written(rest)
    if found["type"] == "extra_forbidden":
        return header, f"unknown key {key!r}{_nearest_key(rest, table, model)}"
    if found["type"] == "missing":
        return header, f"{key} is missing"
    if found["type"] == "tuple_type" and _list_of_tables((*place, 0), model) is not None:
        return header, f"{key}: must be a list of tables, each written [[{where}.{key}]]"
    text = _said(found)
    return header, f"{key}: {text}" if key else text


def _is_one_of_several(found: ErrorDetails) -> bool:
    return bool(found["loc"]) and found["loc"][-1] in _PARAMETER_KINDS and found["type"].endswith("_type")


def _list_of_tables(place: tuple[int | str, ...], model: type[BaseModel]) -> tuple[str, int, type[BaseModel]] | None:
    match place:
        case (str() as key, int() as number, *_) if key in model.model_fields:
            table = _model_in(model.model_fields[key].annotation)
            return None if table is None else (key, number, table)
        case _:
            return None


def _written(place: tuple[int | str, ...]) -> str:
    """Return a place as the file has it: names joined by dots, and which entry of a list."""
    key = ""
    for part in place:
        key += f", entry {part + 1}" if isinstance(part, int) else f"{'.' if key else ''}{part}"
    return key


def _said(found: ErrorDetails) -> str:
    if _is_one_of_several(found):
        return "must be a text in quotes, a whole number, true or false"
    context = found.get("ctx", {})
    if found["type"] in {"enum", "literal_error"}:
        words = _QUOTED.findall(str(context.get("expected", "")))
        close = difflib.get_close_matches(found["input"], words, n=1) if isinstance(found["input"], str) else []
        meant = f" (did you mean {close[0]!r}?)" if close else ""
        return f"must be one of {', '.join(map(repr, words))}{meant}"
    wanted = _WANTED.get(found["type"])
    return wanted.format(**context) if wanted is not None else found["msg"].removeprefix("Value error, ")


def _nearest_key(place: tuple[int | str, ...], table: type[BaseModel], model: type[BaseModel]) -> str:
    """Look for the key that was meant: by its whole path, for it may belong to another table than it was written in."""
    *above, written = (str(part) for part in place)
    here = _table_at(above, table) or table
    own = [key for key in here.model_fields if here is not model or key != "name"]
    prefix = "".join(f"{part}." for part in above)
    known = [*(prefix + key for key in own), *(path for path in _paths(table) if path != "name")]
    close = difflib.get_close_matches(prefix + written, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else nearest(written, own)


def _table_at(path: list[str], model: type[BaseModel]) -> type[BaseModel] | None:
    """Return the model of the table at a path; a list's index and a placeholder's name are passed over."""
    here: type[BaseModel] | None = model
    for part in path:
        if here is not None and part in here.model_fields:
            here = _model_in(here.model_fields[part].annotation)
    return here


def _paths(model: type[BaseModel], prefix: str = "", depth: int = 0) -> Iterator[str]:
    for key, found in model.model_fields.items():
        yield prefix + key
        inner = _model_in(found.annotation)
        if inner is not None and depth < _DEEPEST:
            yield from _paths(inner, f"{prefix}{key}.", depth + 1)


def _model_in(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401 -- an annotation is any expression
    """Return the model that an annotation is made of: itself, optional, in a list or the values of a table."""
    if inspect.isclass(annotation) and not typing.get_args(annotation):
        return annotation if issubclass(annotation, BaseModel) else None
    found = (_model_in(part) for part in typing.get_args(annotation))
    return next((inner for inner in found if inner is not None), None)
