"""From a table of the configuration to a checked value, or to one line that a person can act on."""

from __future__ import annotations

import difflib
import inspect
import typing
from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from worker.domain.errors import ConfigurationError

Model = TypeVar("Model", bound=BaseModel)
#: Tables within tables within tables: deeper ones are nobody's.
_DEEPEST: Final = 3


def validated(model: type[Model], where: str, table: object) -> Model:
    """Validate one table of the configuration.

    Raises:
        ConfigurationError: one line with the table's name and every key that is wrong.

    """
    if not isinstance(table, dict):
        message = f"[{where}] must be a table"
        raise ConfigurationError(message)
    try:
        return model.model_validate(table)
    except ValidationError as error:
        raise ConfigurationError(f"[{where}] {_complaints(error, model)}") from None


#: Names that a message lists where none is close: the catalogue alone has too many for one line.
_NAMES_SHOWN: Final = 12


def nearest(name: str, known: Iterable[str]) -> str:
    """Return what to add to a message about an unknown name: the nearest known one, or all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f" (did you mean {close[0]!r}?)"
    more = ", …" if len(names) > _NAMES_SHOWN else ""
    return f" (known: {', '.join(names[:_NAMES_SHOWN])}{more})" if names else ""


def _complaints(error: ValidationError, model: type[BaseModel]) -> str:
    lines = []
    for found in error.errors(include_input=False, include_url=False, include_context=False):
        key = ".".join(str(part) for part in found["loc"])
        if found["type"] == "extra_forbidden":
            lines.append(f"unknown key {key!r}{_nearest_key(found['loc'], model)}")
        elif found["type"] == "missing":
            lines.append(f"{key} is missing")
        else:
            text = found["msg"].removeprefix("Value error, ")
            lines.append(f"{key}: {text}" if key else text)
    return "; ".join(dict.fromkeys(lines))


def _nearest_key(place: tuple[int | str, ...], model: type[BaseModel]) -> str:
    """Look for the key that was meant: by its whole path, for it may belong to another table than it was written in."""
    *above, written = (str(part) for part in place)
    table = _table_at(above, model) or model
    own = [key for key in table.model_fields if table is not model or key != "name"]
    prefix = "".join(f"{part}." for part in above)
    known = [*(prefix + key for key in own), *(path for path in _paths(model) if path != "name")]
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
