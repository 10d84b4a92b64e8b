"""Finding what `evergrant up` started: its embedded servers' addresses, for the other commands in the same folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from worker.embedded.folder_lock import is_held
from worker.settings import DEFAULT_HOME, PREFIX

_FILE: Final = "run.env"
_PASSED_ON: Final = ("DATABASE_URL", "BROKER_URL", "KEYS", "CONFIG", "PUBLIC_URL", "SMTP_URL", "MAIL_FROM")


def write_running(home: Path, environment: Mapping[str, str]) -> None:
    """Leave the settings of a running `evergrant up` where other commands find them; only its user can read them."""
    lines = [f"{PREFIX}{name}={environment[PREFIX + name]}" for name in _PASSED_ON if PREFIX + name in environment]
    path = home / _FILE
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


def forget_running(home: Path) -> None:
    """Remove what `write_running` left."""
    (home / _FILE).unlink(missing_ok=True)


def with_running(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment completed by what a running `evergrant up` in the same home uses.

    What is set wins. Nothing is added where a database is set: then the environment speaks of another installation.
    """
    if any(environment.get(PREFIX + name) for name in ("DATABASE_URL", "DATABASE_URL_FILE")):
        return dict(environment)
    home = Path(environment.get(f"{PREFIX}HOME_DIR") or DEFAULT_HOME)
    if not is_held(home):
        return dict(environment)  # what one that was killed left behind leads nowhere
    try:
        lines = (home / _FILE).read_text(encoding="utf-8").splitlines()
    except OSError:
        return dict(environment)
    found = dict(line.split("=", 1) for line in lines if "=" in line)
    return {**found, **{name: value for name, value in environment.items() if value}}
