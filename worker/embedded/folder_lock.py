"""One `evergrant up` per home folder."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from worker.embedded.errors import EmbeddedServiceError
from worker.embedded.service_folder import user_name

_LOCK_FILE: Final = "up.lock"

_ATTEMPTS: Final = 10
_PAUSE: Final = 0.02
"""Seconds between attempts: `is_held` takes a shared lock for an instant, and must not pass for a second `up`."""


class FolderLock:
    """An exclusive lock on a home folder. The kernel releases it when its process ends, however it ends."""

    def __init__(self, home: Path) -> None:
        """Describe the lock on `home`, which must exist when the lock is taken."""
        self._home = home
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            EmbeddedServiceError: if another process holds it, which is named, or if its file cannot be opened.
        """
        path = self._home / _LOCK_FILE
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            us = user_name(os.geteuid())
            message = (
                f"{path} cannot be opened by user {us}: {error.strerror}. {_owner_of(self._home)}: run as that user, "
                "or set EVERGRANT_HOME_DIR to a folder of your own"
            )
            raise EmbeddedServiceError(message) from error
        if not _lock(descriptor):
            pid = _written_pid(descriptor)
            os.close(descriptor)
            message = (
                f"another `evergrant up` (process {pid or 'unknown'}) already uses {self._home}: stop it first, or set "
                "EVERGRANT_HOME_DIR to another folder"
            )
            raise EmbeddedServiceError(message)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back; does nothing where it is not held. Its file stays, for removing it would be a race."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def is_held(home: Path) -> bool:
    """Whether some process holds the lock on `home` at this moment.

    Raises:
        EmbeddedServiceError: if its file is not ours to read.
    """
    path = home / _LOCK_FILE
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError as error:
        us = user_name(os.geteuid())
        message = f"{path} cannot be read by user {us}: {error.strerror}. {_owner_of(home)}: run as that user"
        raise EmbeddedServiceError(message) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _lock(descriptor: int) -> bool:
    for attempt in range(_ATTEMPTS):
        if attempt > 0:
            time.sleep(_PAUSE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        return True
    return False


def _written_pid(descriptor: int) -> int | None:
    text = os.pread(descriptor, 32, 0).decode("ascii", errors="replace").strip()
    return int(text) if text.isdecimal() else None


def _owner_of(home: Path) -> str:
    try:
        return f"{home} belongs to user {user_name(home.stat().st_uid)}"
    except OSError as error:
        return f"{home}: {error.strerror}"
