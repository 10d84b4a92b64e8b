"""Files with secrets, and the folder of the escrow: who can read them, and whether they can be written."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from worker.doctor.finding import Finding, error, ok, warning
from worker.settings import PREFIX, Settings

_SECRET_SETTINGS: Final = ("KEYS", "DATABASE_URL", "BROKER_URL", "SMTP_URL")
#: Bytes free below which the escrow may not take what an outage brings: some hundred thousand entries.
ENOUGH_ROOM: Final = 256 * 1024 * 1024


def check_files(environment: Mapping[str, str], settings: Settings, config: Path | None) -> Iterator[Finding]:
    """Look at every file that holds a secret, and at EVERGRANT_HOME_DIR.

    Args:
        environment: of this process.
        settings: read from it.
        config: the configuration file, whose `file:` references are looked at too.

    """
    for name in _SECRET_SETTINGS:
        path = environment.get(f"{PREFIX}{name}_FILE")
        if path:
            yield _permissions(f"{PREFIX}{name}_FILE", Path(path))
    for path in sorted(set(_references(config))):
        yield _permissions("file: reference", Path(path))
    yield from _home(settings.home_dir)


def _permissions(what: str, path: Path) -> Finding:
    check = f"permissions of {path}"
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as failed:
        return error(check, f"{what}: {failed.strerror}", f"make {path} readable for the user who runs Evergrant")
    if mode & stat.S_IROTH:
        return error(check, f"{what}: everybody on this machine can read it ({mode:04o})", f"chmod o= {path}")
    if mode & stat.S_IWGRP:
        return warning(check, f"{what}: its group can change it ({mode:04o})", f"chmod g-w {path}")
    return ok(check, f"{what}: {mode:04o}")


def _references(config: Path | None) -> Iterator[str]:
    if config is None:
        return
    try:
        tables = tomllib.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return  # the configuration's own check tells
    yield from _files_in(tables)


def _files_in(value: Any) -> Iterator[str]:  # noqa: ANN401 -- whatever TOML holds
    match value:
        case str() if value.startswith("file:"):
            yield value.removeprefix("file:")
        case dict():
            for one in value.values():
                yield from _files_in(one)
        case list():
            for one in value:
                yield from _files_in(one)
        case _:
            return


def _home_to_be_made(check: str, home: Path, remedy: str) -> Finding:
    """Judge a folder that is not there by where it would be made: a look makes nothing.

    Raises:
        OSError: when it cannot even be looked at.

    """
    above = next(folder for folder in home.absolute().parents if folder.exists())
    if above.is_dir() and os.access(above, os.W_OK | os.X_OK):
        return ok(check, f"{home} is not there yet, and is made once a process needs it")
    return error(check, f"{home} is not there and cannot be made in {above}, so the escrow has no home there", remedy)


def _home(home: Path) -> Iterator[Finding]:
    check = "EVERGRANT_HOME_DIR"
    remedy = f"give Evergrant's user a folder that lasts: mkdir -p {home}, chmod 700 {home}, and own it"
    try:
        if not home.exists():
            yield _home_to_be_made(check, home, remedy)
            return
        with tempfile.TemporaryFile(dir=home) as file:
            file.write(b"doctor")
            file.flush()
            os.fsync(file.fileno())
    except OSError as failed:
        yield error(check, f"{home} takes no file, so the escrow has no home there: {failed.strerror}", remedy)
        return
    mode = stat.S_IMODE(home.stat().st_mode)
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        yield warning(check, f"everybody can look into {home} ({mode:04o})", f"chmod 700 {home}")
    free = shutil.disk_usage(home).free
    if free < ENOUGH_ROOM:
        yield warning(check, f"{free // 2**20} MiB are free in {home}", "make room: an outage's tokens wait there")
    else:
        yield ok(check, f"{home} takes files, {free // 2**30} GiB are free")
