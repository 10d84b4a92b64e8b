"""Where a run keeps what it must search, and how the programs that it starts find that."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

#: The environment variable with the folder. Evergrant's own have another prefix, and would refuse to know it.
FOLDER: Final = "SECRECY_FOLDER"
ROOT: Final = Path(__file__).parents[2]
#: What a Python must have on PYTHONPATH to take part, where it finds the checkout by itself.
CHILD: Final = Path(__file__).parent / "child"


def folder() -> Path | None:
    """Return the run's folder; None: nothing is searched, as in a program that no test has started."""
    found = os.environ.get(FOLDER)
    return Path(found) if found else None


def environment() -> dict[str, str]:
    """Return the variables by which a Python that is started with no others takes part, and finds the checkout."""
    found = os.environ.get(FOLDER)
    if found is None:
        return {"PYTHONPATH": str(ROOT)}
    return {"PYTHONPATH": os.pathsep.join([str(CHILD), str(ROOT)]), FOLDER: found}


def append(path: Path, line: bytes) -> None:
    """Write one line at the end of a file that several processes write to, so that it survives any of them."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)
