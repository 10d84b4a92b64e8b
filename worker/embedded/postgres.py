"""A real PostgreSQL in a folder of its own."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

import psycopg
from psycopg import sql

from worker.domain.secret import Secret
from worker.embedded.binaries import PostgresPrograms, find_postgres
from worker.embedded.bound import bare_environment, start_bound, stop_in_steps
from worker.embedded.errors import EmbeddedServiceError
from worker.embedded.postgres_data import SUPERUSER, PostgresData
from worker.embedded.server_log import ServerLog
from worker.embedded.service_folder import claim_folder
from worker.embedded.service_user import ServiceUser, postgres_user, unprivileged_ids
from worker.embedded.startup import LOOPBACK, Listening, free_loopback_port, start_listening

ROLE: Final = "evergrant"
"""The role and the database of the URL. It owns the database and may create more; it is no superuser, so that a query
can never read files of the machine with the server's rights."""

_CONNECT_PATIENCE: Final = 10
"""Seconds for one connection on the loopback; libpq takes whole seconds."""

_STOP_STEPS: Final = (
    (signal.SIGINT, 20.0),  # "fast": ends sessions, writes a checkpoint
    (signal.SIGQUIT, 10.0),  # "immediate": the next start replays the log
    (signal.SIGKILL, 10.0),
)

_SETTINGS: Final = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",  # a path below the folder can be longer than the 107 bytes a socket may have
    "max_connections": "200",
    "shared_buffers": "128MB",
    "min_wal_size": "80MB",  # PostgreSQL's own defaults, which initdb lowers for small segments
    "max_wal_size": "1GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "log_destination": "stderr",
    "logging_collector": "off",
}

_NOT_DURABLE: Final = {"fsync": "off", "full_page_writes": "off"}
"""Leaves the writing to the operating system: still nothing is lost when processes die."""


class EmbeddedPostgres:
    """PostgreSQL in `folder`: made at the first start, found again at the next, gone when this process goes.

    The folder holds `data`, the server's log and the superuser's password. It belongs to the user that PostgreSQL runs
    as: ourselves, or `nobody` if we are root. The caller sees to it that only one process uses it (`FolderLock`).
    Role `evergrant` gets a new password at each start; it stands nowhere but in the URL.
    """

    def __init__(
        self,
        folder: Path,
        *,
        token: Callable[[], str],
        monotonic: Callable[[], float],
        durable: bool = True,
        program_folders: Iterable[Path] | None = None,
        free_port: Callable[[], int] = free_loopback_port,
    ) -> None:
        """Describe the server; nothing is touched until `start`.

        Args:
            folder: where everything is kept; made with its parents when missing.
            token: gives a new unguessable password without line breaks at each call.
            monotonic: a clock in seconds, for deadlines.
            durable: False turns off waiting for the disk, so that a loss of power can lose everything: for tests only.
            program_folders: where to look for `initdb` and `postgres`; None means the wheels, then the machine.
            free_port: chooses a port on the loopback; it is asked again when somebody else was faster.
        """
        self.folder = folder.resolve()
        self._token = token
        self._monotonic = monotonic
        self._durable = durable
        self._program_folders = program_folders
        self._free_port = free_port
        self._log = ServerLog(self.folder / "postgres.log")
        self._kept = PostgresData(folder=self.folder, log=self._log)
        self._running: Listening | None = None
        self._url: Secret | None = None

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The server's process while it is started."""
        return None if self._running is None else self._running.process

    @property
    def log_ending(self) -> str:
        """The end of the server's log with its path, for an error message."""
        return self._log.ending()

    def start(self) -> Secret:
        """Start the server and return its URL, `postgresql://evergrant:…@127.0.0.1:<port>/evergrant`.

        A server that is already started is left as it is. Call it from the main thread.

        Raises:
            EmbeddedServiceError: with what failed and what to do; nothing is left running then.
        """
        if self._url is not None:
            return self._url
        uid, gid = unprivileged_ids()
        claim_folder(self.folder, uid=uid, gid=gid)
        made_by = self._kept.made_by()
        programs = find_postgres(made_by=made_by, folders=self._program_folders)
        as_user = postgres_user(folder=self.folder, programs=(programs.initdb, programs.postgres))
        self._log.begin()
        if made_by is None:
            self._kept.make(programs, as_user=as_user, token=self._token, durable=self._durable)
        superuser_password = self._kept.superuser_password()
        self._kept.wait_for_previous_server()
        password = Secret(self._token())
        self._running = start_listening(
            name="PostgreSQL",
            launch=lambda port: self._launch(programs, as_user, port),
            answers=lambda process, port: (
                self._kept.is_ready(process.pid, port) and self._answers(port, superuser_password, password)
            ),
            log=self._log,
            monotonic=self._monotonic,
            free_port=self._free_port,
        )
        address = f"{LOOPBACK}:{self._running.port}"
        self._url = Secret(f"postgresql://{ROLE}:{quote(password.reveal(), safe='')}@{address}/{ROLE}")
        return self._url

    def stop(self) -> None:
        """Stop the server in good order, by force if it does not go; does nothing where it is not started."""
        running, self._running, self._url = self._running, None, None
        if running is not None:
            stop_in_steps(running.process, _STOP_STEPS)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _launch(self, programs: PostgresPrograms, as_user: ServiceUser | None, port: int) -> subprocess.Popen[bytes]:
        settings = {**_SETTINGS, "port": str(port), **({} if self._durable else _NOT_DURABLE)}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return start_bound(
            [programs.postgres, "-D", self._kept.data, *options],
            death_signal=signal.SIGQUIT,
            env=bare_environment(),
            cwd=self.folder,
            log_path=self._log.path,
            as_user=as_user,
        )

    def _answers(self, port: int, superuser_password: Secret, password: Secret) -> bool:
        """Whether the server takes connections; then role and database are there, and the role has `password`."""
        try:
            connection = psycopg.connect(
                hostaddr=LOOPBACK,
                port=port,
                user=SUPERUSER,
                password=superuser_password.reveal(),
                dbname="postgres",
                autocommit=True,
                connect_timeout=_CONNECT_PATIENCE,
                # The server proves that it knows the password too, whoever it may be that took our port in a race.
                require_auth="scram-sha-256",
                # Given, so that PG… variables of the environment do not count.
                sslmode="disable",
                gssencmode="disable",
                options="",
            )
        except psycopg.OperationalError as error:
            # libpq gives no SQLSTATE for a refused connection; the words are English, for lc_messages is C.
            if "password authentication failed" not in str(error):
                return False
            message = (
                f"PostgreSQL in {self._kept.data} does not accept the password in {self._kept.password_file}: bring "
                f"back the file that belongs to it, or move {self.folder} away to begin with an empty database"
            )
            raise EmbeddedServiceError(message) from None
        try:
            with connection:
                _prepare_role_and_database(connection, password)
        except psycopg.Error as error:
            message = f"PostgreSQL cannot prepare role and database {ROLE}: {error}; {self._log.ending()}"
            raise EmbeddedServiceError(message) from error
        return True


def _prepare_role_and_database(connection: psycopg.Connection, password: Secret) -> None:
    verifier = connection.pgconn.encrypt_password(password.reveal().encode(), ROLE.encode(), b"scram-sha-256").decode()
    role = sql.Identifier(ROLE)
    exists = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [ROLE]).fetchone()
    action = sql.SQL("ALTER ROLE {}" if exists else "CREATE ROLE {}").format(role)
    connection.execute(
        sql.SQL("{} NOSUPERUSER LOGIN CREATEDB PASSWORD {}").format(action, sql.Literal(verifier)),
    )
    if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [ROLE]).fetchone() is None:
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(role, role))
