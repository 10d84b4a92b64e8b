"""Paths into an answer: member names joined by dots, a number for a place in a list."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from worker.oauth.provider_values import Parameter

#: Tokens are looked for so deep where no path says where they are.
_DEEPEST: Final = 3
#: So many members of an answer are looked through for them; a token answer has a few dozen.
_MOST_MEMBERS: Final = 10_000
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")


def at(fields: object, path: str) -> Any:  # noqa: ANN401 -- a member of a JSON object is anything
    """Return what stands at a path, or None where nothing does."""
    if isinstance(fields, dict):  # most paths are a name, and a token answer is asked for a dozen of them
        found = fields.get(path)
        if found is not None or "." not in path:
            return found
    found = fields
    for part in path.split("."):
        if isinstance(found, dict):
            found = found.get(part)
        elif isinstance(found, list) and part.isascii() and part.isdigit() and len(part) <= 6:  # noqa: PLR2004 -- digits
            found = found[int(part)] if int(part) < len(found) else None
        else:
            return None
    return found


def first_at(fields: object, paths: Iterable[str]) -> Any:  # noqa: ANN401 -- as above
    """Return the first thing that stands at any of some paths, or None."""
    for path in paths:
        found = at(fields, path)
        if found is not None:
            return found
    return None


def objects_in(fields: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield an answer's object and those in it, the outer ones first, down to a few levels."""
    level: list[Any] = [fields]
    budget = _MOST_MEMBERS
    for _ in range(_DEEPEST + 1):
        if not level:  # most answers are flat
            return
        below: list[Any] = []
        for here in level:
            if isinstance(here, dict):
                yield here
            members = list(here.values()) if isinstance(here, dict) else here
            below += [member for member in members[: max(budget, 0)] if isinstance(member, (dict, list))]
            budget -= len(members)
        level = below


def is_value(found: object, wanted: Iterable[Parameter]) -> bool:
    """Tell whether a member is one of some values; a quoted number is that number, but `1` is not `true`."""
    return any(_same(found, value) for value in wanted)


def _same(found: object, value: Parameter) -> bool:
    if isinstance(found, bool) or isinstance(value, bool):
        return found is value
    return isinstance(found, str | int) and str(found) == str(value)


def text_of(found: object) -> str | None:
    """Return a text, number or truth value as text; None for everything else, and for text that cannot be stored."""
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, int):
        return str(found)
    return found if isinstance(found, str) and is_storable(found) else None


def is_storable(text: str) -> bool:
    """Tell whether a text can be stored: neither a NUL nor half of a surrogate pair is in it."""
    return _UNSTORABLE.search(text) is None
