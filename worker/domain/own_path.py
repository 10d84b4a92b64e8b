"""Where a browser may be sent on to: a path of our own, and nothing else."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

#: Where one goes who names no place, or a place that is not ours.
FIRST_PAGE: Final = "/"
#: Longer is no address of a page.
_LONGEST: Final = 2048


def own_path(asked: str | None) -> str:
    """Return a path with its query where it is one of ours, else the first page's.

    Browsers take a backslash for a slash and drop tabs and line ends (WHATWG URL, section 4.4), so none of these, and
    no second slash at the beginning, may stand there.
    """
    if asked is None or not 0 < len(asked) <= _LONGEST:
        return FIRST_PAGE
    is_ours = asked.startswith("/") and not asked.startswith("//") and "\\" not in asked and asked.isprintable()
    if not is_ours or not asked.isascii() or " " in asked:
        return FIRST_PAGE
    parts = urlsplit(asked)
    return asked if not parts.scheme and not parts.netloc else FIRST_PAGE
