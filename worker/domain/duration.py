"""Durations as configuration writes them: `30s`, `10m`, `24h`, `90d`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

_UNITS: Final = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
_FORM: Final = re.compile(r"\s*([0-9]{1,15})(?:\.([0-9]{1,3}))?\s*(ms|s|m|h|d)\s*")


def parse_duration(text: str) -> timedelta:
    """Read a duration such as `30s`, `1.5h` or `250ms`.

    Raises:
        ValueError: when the text is not a number followed by one of ms, s, m, h, d, or beyond a `timedelta`.
    """
    match = _FORM.fullmatch(text)
    try:
        if match is not None:
            unit = _UNITS[match[3]]
            return int(match[1]) * unit + int((match[2] or "").ljust(3, "0")) * unit / 1000
    except OverflowError:
        pass
    message = f"{text!r} is not a duration; write a number and a unit (ms, s, m, h, d), such as 30s or 24h"
    raise ValueError(message)


def write_duration(duration: timedelta) -> str:
    """Write a duration the way configuration does, in the largest unit that keeps it whole."""
    for unit in ("d", "h", "m", "s"):
        whole, rest = divmod(duration, _UNITS[unit])
        if whole and not rest:
            return f"{whole}{unit}"
    whole, rest = divmod(duration, _UNITS["ms"])
    return f"{whole}.{rest.microseconds:03}ms" if rest else f"{whole}ms"
