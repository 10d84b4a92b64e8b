"""The folder that a service keeps its data in: one owner, closed to everybody else."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Final

from worker.embedded.errors import EmbeddedServiceError

_PRIVATE_FOLDER: Final = 0o700
_PRIVATE_FILE: Final = 0o600


def user_name(uid: int) -> str:
    """Return a user's name with its id, or the id alone where it has no name."""
    try:
        return f"{pwd.getpwuid(uid).pw_name} (id {uid})"
    except KeyError:
        return f"id {uid}"


def claim_folder(folder: Path, *, uid: int, gid: int) -> None:
    """Make `folder` (mode 0700) for the user, or check that it is already theirs.

    Raises:
        EmbeddedServiceError: if it belongs to somebody else: a folder first used by root cannot be used by an ordinary
            user later, nor the other way round.
    """
    try:
        folder.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
        owner = folder.stat().st_uid
        ours_and_empty = owner == os.geteuid() and not any(folder.iterdir())
    except OSError as error:
        message = f"the folder {folder} cannot be used by user {user_name(os.geteuid())}: {error.strerror}"
        raise EmbeddedServiceError(message) from error
    if owner != uid and ours_and_empty:
        # Just made, or made by a start that was cut off right here.
        os.chown(folder, uid, gid)
        return
    if owner != uid:
        message = (
            f"the folder {folder} belongs to user {user_name(owner)}, but user {user_name(uid)} is needed, because "
            f"`evergrant up` now runs as user {user_name(os.geteuid())} and did not when it was made: run it as "
            "before, set EVERGRANT_HOME_DIR to another folder, or hand the folder over (as root: "
            f"chown -R {uid}:{gid} {folder})"
        )
        raise EmbeddedServiceError(message)


def write_private(path: Path, text: str, *, uid: int, gid: int) -> None:
    """Write a file that only its owner may read (mode 0600), whole or not at all, and on the disk when this returns."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE_FILE)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        if uid != os.geteuid():
            os.fchown(descriptor, uid, gid)
        os.fsync(descriptor)
    unfinished.rename(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Put the names in `folder` on the disk, so that a rename survives a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
