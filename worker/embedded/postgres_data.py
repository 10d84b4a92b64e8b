"""PostgreSQL's data folder: who made it, making it, and the server that may still be leaving it."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from signal import SIGKILL
from typing import Final

from worker.domain.secret import Secret
from worker.embedded.binaries import PostgresPrograms
from worker.embedded.bound import bare_environment, start_bound, stop_in_steps
from worker.embedded.errors import EmbeddedServiceError
from worker.embedded.server_log import ServerLog
from worker.embedded.service_folder import sync_folder, write_private
from worker.embedded.service_user import ServiceUser
from worker.embedded.startup import KILL_STEPS

SUPERUSER: Final = "postgres"

_MAKING: Final = "data.making-"
_INITDB_PATIENCE: Final = 120.0
"""Seconds for initdb; one or two are usual, most of it waiting for the disk."""

_WAL_SEGMENT: Final = 4
"""Megabytes of a segment of the write-ahead log. A new one is filled with zeros while every commit waits: with the 16
that are usual that takes 20 to 40 ms, as long as an answer may take from the socket to the disk."""

# Lines of postmaster.pid, counted from 0 (PostgreSQL's miscadmin.h, LOCK_FILE_LINE_…)
_PID_LINE: Final = 0
_PORT_LINE: Final = 3
_STATUS_LINE: Final = 7

_PREVIOUS_PATIENCE: Final = 10_000
"""Milliseconds for the server of a killed parent to be gone: it ends its backends, by force after 5 s."""


def may_be_server_of(data: Path, command_line: bytes) -> bool:
    """Whether a process with this `/proc/<pid>/cmdline` is a PostgreSQL server, and not one of another data folder.

    Our own name their folder with `-D` and an absolute path. One started by hand may not, and is not ruled out.
    """
    words = [os.fsdecode(word) for word in command_line.split(b"\0")]
    if Path(words[0]).name not in {"postgres", "postmaster"}:
        return False
    after_option = [value for option, value in pairwise(words) if option == "-D"]
    return not after_option or not after_option[0].startswith("/") or Path(after_option[0]).resolve() == data


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresData:
    """What lies in PostgreSQL's folder.

    Attributes:
        folder: the service's folder; `data` in it is PostgreSQL's own, `superuser-password` says what it says.
        log: where initdb writes.
    """

    folder: Path
    log: ServerLog

    @property
    def data(self) -> Path:
        """PostgreSQL's own data folder. It exists only whole: it is made under another name."""
        return self.folder / "data"

    @property
    def password_file(self) -> Path:
        """The superuser's password, for an administrator and for our own first connection."""
        return self.folder / "superuser-password"

    def made_by(self) -> int | None:
        """Return the major version of PostgreSQL that made the data, None while there is none.

        Raises:
            EmbeddedServiceError: if there is a data folder that PostgreSQL did not make.
        """
        if not self.data.exists():
            return None
        try:
            return int((self.data / "PG_VERSION").read_text(encoding="ascii").split(".")[0])
        except (OSError, ValueError) as error:
            message = f"{self.data} is no data folder of PostgreSQL (its PG_VERSION: {error}): move it away"
            raise EmbeddedServiceError(message) from error

    def make(
        self, programs: PostgresPrograms, *, as_user: ServiceUser | None, token: Callable[[], str], durable: bool
    ) -> None:
        """Make the data folder with initdb, whole or not at all.

        An attempt that was cut off leaves a folder of another name, which the next attempt clears away.

        Raises:
            EmbeddedServiceError: if initdb fails.
        """
        for unfinished in self.folder.glob(f"{_MAKING}*"):
            # A killed attempt's last process may still be writing there; then the attempt after this one clears it.
            shutil.rmtree(unfinished, ignore_errors=True)
        uid, gid = (os.geteuid(), os.getegid()) if as_user is None else (as_user.uid, as_user.gid)
        write_private(self.password_file, token() + "\n", uid=uid, gid=gid)
        making = self.folder / f"{_MAKING}{os.getpid()}"
        process = start_bound(
            [
                programs.initdb,
                f"--pgdata={making}",
                f"--username={SUPERUSER}",
                f"--pwfile={self.password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--data-checksums",
                f"--wal-segsize={_WAL_SEGMENT}",
                "--no-instructions",
                *([] if durable else ["--no-sync"]),
            ],
            death_signal=SIGKILL,
            env=bare_environment(),
            cwd=self.folder,
            log_path=self.log.path,
            as_user=as_user,
        )
        try:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=_INITDB_PATIENCE)
        finally:
            stop_in_steps(process, KILL_STEPS)
        if process.returncode != 0:
            shutil.rmtree(making, ignore_errors=True)
            message = f"initdb could not make {self.data} (exit status {process.returncode}); {self.log.ending()}"
            raise EmbeddedServiceError(message)
        making.rename(self.data)
        if durable:
            sync_folder(self.folder)

    def superuser_password(self) -> Secret:
        """Return the superuser's password.

        Raises:
            EmbeddedServiceError: if its file is missing.
        """
        try:
            return Secret(self.password_file.read_text(encoding="utf-8").rstrip("\n"))
        except FileNotFoundError:
            message = (
                f"{self.password_file} is missing, and without it nothing can sign in to {self.data}: bring it back, "
                f"or move {self.folder} away to begin with an empty database"
            )
            raise EmbeddedServiceError(message) from None

    def is_ready(self, pid: int, port: int) -> bool:
        """Whether the server with this pid says, in its pid file, that it takes connections on this port."""
        try:
            lines = (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return False
        if len(lines) <= _STATUS_LINE:
            return False
        said = (lines[_PID_LINE], lines[_PORT_LINE], lines[_STATUS_LINE].strip())
        return said == (str(pid), str(port), "ready")

    def wait_for_previous_server(self) -> None:
        """Wait until a server that is just going down has left the data, and clear a lock file that nobody holds.

        PostgreSQL clears `postmaster.pid` itself, except where the pid in it now belongs to some other process of the
        same user, which is the rule in a container that was restarted.

        Raises:
            EmbeddedServiceError: if a server stays.
        """
        lock_file = self.data / "postmaster.pid"
        try:
            pid = int(lock_file.read_text(encoding="ascii").split("\n", 1)[0])
            descriptor = os.pidfd_open(pid)
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return
        try:
            try:
                command_line = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                return  # gone by now, or not ours to look at: PostgreSQL decides
            if not may_be_server_of(self.data, command_line):
                lock_file.unlink(missing_ok=True)
                return
            ended = select.poll()
            ended.register(descriptor, select.POLLIN)
            if not ended.poll(_PREVIOUS_PATIENCE):
                message = f"a PostgreSQL (process {pid}) already runs on {self.data}: stop it first (kill -INT {pid})"
                raise EmbeddedServiceError(message)
        finally:
            os.close(descriptor)
