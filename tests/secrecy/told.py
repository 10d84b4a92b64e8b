"""Keeps what a run tells anybody and what no file would hold until its end."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from tests.secrecy.folder import append, folder

_SUFFIX: Final = ".told"


def tell(place: str, text: str | bytes, *, test: str | None = None) -> None:
    """Keep what was told, with the test that was running.

    Args:
        place: what it was: `mails`, `problems`; `places` says what may stand there.
        text: all of it.
        test: whose it is; None: the one that is running.

    """
    kept = folder()
    if kept is None or not text:
        return
    raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    # One line for each telling, so that a line of the file names its test.
    whose = test or os.environ.get("PYTEST_CURRENT_TEST", "outside of a test").partition(" (")[0]
    line = b"\x1f".join(raw.splitlines())
    append(kept / (place + _SUFFIX), whose.encode() + b"\t" + line + b"\n")


def tellings(kept: Path) -> dict[str, list[tuple[str, str]]]:
    """Return what was told by place: each with its test."""
    found: dict[str, list[tuple[str, str]]] = {}
    for path in sorted(kept.glob(f"*{_SUFFIX}")):
        for line in path.read_bytes().decode("latin-1").split("\n"):
            test, _tab, text = line.partition("\t")
            if text:
                found.setdefault(path.name.removesuffix(_SUFFIX), []).append((test, text))
    return found
