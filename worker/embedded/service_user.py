"""Which user PostgreSQL runs as: ourselves, or, because it refuses root, `nobody` when root starts it.

A clone made by root often lies below a directory that `nobody` cannot enter (`mktemp -d` makes 0700). Nothing outside
the service's own folder is changed for that: instead the server keeps the one capability that lets it pass, and only
where it is needed.
"""

from __future__ import annotations

import enum
import os
import pwd
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from worker.embedded.errors import EmbeddedServiceError

_USER: Final = "nobody"
"""An unprivileged user that every Linux system has; none is ever created."""

_ROOT: Final = 0

_CAP_SETPCAP: Final = 8


class Capability(enum.Enum):
    """What a server run by `nobody` may keep of root's rights (numbers: linux/capability.h)."""

    DAC_OVERRIDE = 1
    """Pass every permission check on files: kept only where DAC_READ_SEARCH is not to be had or is not enough."""

    DAC_READ_SEARCH = 2
    """Read files and enter directories whatever their permissions; write nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceUser:
    """The user that a server runs as when it is not our own.

    Attributes:
        uid: its numeric id, and `gid` its group's.
        capability: what it keeps of root's rights, if anything.
    """

    uid: int
    gid: int
    capability: Capability | None


def may_execute(status: os.stat_result, *, uid: int, gid: int) -> bool:
    """Whether a user without privileges may execute this file, or enter this directory, by its permission bits."""
    if status.st_uid == uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def first_barrier(
    path: Path, *, uid: int, gid: int, status_of: Callable[[Path], os.stat_result] = os.stat
) -> Path | None:
    """Return the first directory above `path` (absolute, without symbolic links) that the user cannot enter."""
    for directory in reversed(path.parents):
        if not may_execute(status_of(directory), uid=uid, gid=gid):
            return directory
    return None


def keepable_capabilities(status: str) -> frozenset[Capability]:
    """Return which capabilities a process may hand on, from the text of its `/proc/<pid>/status`.

    Handing one on takes it in the permitted set and in the bounding set, and CAP_SETPCAP to make it count everywhere
    (see `exec_bound.become`). Containers often drop some of these.
    """
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    keepable = int(fields["CapPrm"], 16) & int(fields["CapBnd"], 16)
    if not keepable & (1 << _CAP_SETPCAP):
        return frozenset()
    return frozenset(capability for capability in Capability if keepable & (1 << capability.value))


def _describe(path: Path) -> str:
    status = path.stat()
    return f"{path} (mode {stat.S_IMODE(status.st_mode):04o}, owner id {status.st_uid})"


def _choose(
    *,
    folder_barrier: Path | None,
    program_barriers: frozenset[Path],
    unexecutable: frozenset[Path],
    keepable: frozenset[Capability],
) -> Capability | None:
    """Return the least capability that takes `nobody` past what stops them; raise the error that names it."""
    stopped_by = {*program_barriers, *unexecutable, *([folder_barrier] if folder_barrier else [])}
    if not stopped_by:
        return None
    # The right to search directories does not include executing a file that is closed to us.
    enough = [Capability.DAC_OVERRIDE] if unexecutable else [Capability.DAC_READ_SEARCH, Capability.DAC_OVERRIDE]
    for capability in enough:
        if capability in keepable:
            return capability
    if program_barriers or unexecutable:
        remedy = f"install Evergrant, and set EVERGRANT_HOME_DIR, where user {_USER} can reach both"
    else:
        remedy = f"set EVERGRANT_HOME_DIR to a folder that user {_USER} can reach"
    message = (
        f"PostgreSQL refuses to run as root and would run as user {_USER}, who is stopped by "
        f"{', '.join(sorted(map(_describe, stopped_by)))}; this process may not hand on the capability that would help "
        f"({' or '.join(item.name for item in enough)}): {remedy}, or run as an ordinary user"
    )
    raise EmbeddedServiceError(message)


def unprivileged_ids() -> tuple[int, int]:
    """Return the user id and group id for a server that refuses root: ours, or those of `nobody` if we are root.

    Raises:
        EmbeddedServiceError: if we are root and there is no user `nobody`.
    """
    if os.geteuid() != _ROOT:
        return os.geteuid(), os.getegid()
    try:
        entry = pwd.getpwnam(_USER)
    except KeyError:
        message = f"PostgreSQL refuses to run as root, and there is no user {_USER} to run it: run as an ordinary user"
        raise EmbeddedServiceError(message) from None
    return entry.pw_uid, entry.pw_gid


def postgres_user(*, folder: Path, programs: Iterable[Path]) -> ServiceUser | None:
    """Return the user that PostgreSQL must become, or None where it can run as ourselves.

    Args:
        folder: its own folder, absolute and without symbolic links.
        programs: the programs that it executes, likewise.

    Raises:
        EmbeddedServiceError: if we are root and `nobody` does not exist, or can neither reach the folder and the
            programs nor be helped to.
    """
    if os.geteuid() != _ROOT:
        return None
    uid, gid = unprivileged_ids()
    needed = list(programs)
    capability = _choose(
        folder_barrier=first_barrier(folder, uid=uid, gid=gid),
        program_barriers=frozenset(filter(None, (first_barrier(path, uid=uid, gid=gid) for path in needed))),
        unexecutable=frozenset(path for path in needed if not may_execute(path.stat(), uid=uid, gid=gid)),
        keepable=keepable_capabilities(Path("/proc/self/status").read_text(encoding="ascii")),
    )
    return ServiceUser(uid=uid, gid=gid, capability=capability)
