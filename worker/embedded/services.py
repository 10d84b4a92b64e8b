"""The embedded services of one home folder, put together for `evergrant up`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from worker.domain.secret import Secret
from worker.embedded.errors import EmbeddedServiceError
from worker.embedded.folder_lock import FolderLock, is_held
from worker.embedded.postgres import EmbeddedPostgres
from worker.embedded.service_folder import user_name, write_private
from worker.embedded.valkey import EmbeddedValkey

_RUNNING_FILE: Final = "running.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceUrls:
    """Where the embedded services listen; None where a service of one's own is used instead.

    Attributes:
        database: `postgresql://…`, a value for `EVERGRANT_DATABASE_URL`.
        broker: `redis://…`, a value for `EVERGRANT_BROKER_URL`.
    """

    database: Secret | None
    broker: Secret | None


class EmbeddedServices:
    """The lock on a home folder, and PostgreSQL and Valkey in it as far as they are wanted.

    While they run, `running.json` in the home folder (mode 0600) tells other commands of the same user where.
    """

    def __init__(
        self,
        home: Path,
        *,
        want_database: bool,
        want_broker: bool,
        token: Callable[[], str],
        monotonic: Callable[[], float],
        durable: bool = True,
    ) -> None:
        """Describe the services; nothing is touched until `start`.

        Args:
            home: `EVERGRANT_HOME_DIR`; made when missing. Data lies in its folders `postgres` and `valkey`.
            want_database: start PostgreSQL.
            want_broker: start Valkey.
            token: gives a new unguessable password without line breaks at each call.
            monotonic: a clock in seconds, for deadlines.
            durable: see `EmbeddedPostgres`.
        """
        self.home = home.resolve()
        self._lock = FolderLock(self.home)
        self.postgres = (
            EmbeddedPostgres(self.home / "postgres", token=token, monotonic=monotonic, durable=durable)
            if want_database
            else None
        )
        self.valkey = EmbeddedValkey(self.home / "valkey", token=token, monotonic=monotonic) if want_broker else None
        self._started = ExitStack()

    def start(self) -> ServiceUrls:
        """Start what is wanted and return where it listens. Call it once, from the main thread.

        The lock is taken even when nothing is wanted: the home folder holds the escrow as well.

        Raises:
            EmbeddedServiceError: with what failed and what to do; nothing is left running then.
        """
        try:
            # Root's folder can be passed through (not listed), so that PostgreSQL's user reaches its own below it.
            self.home.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        except OSError as error:
            user = user_name(os.geteuid())
            message = f"the folder {self.home} cannot be made by user {user}: {error.strerror}; set EVERGRANT_HOME_DIR"
            raise EmbeddedServiceError(message) from error
        with ExitStack() as starting:
            starting.enter_context(self._lock)
            running = self.home / _RUNNING_FILE
            running.unlink(missing_ok=True)  # of an `up` that was killed
            database = broker = None
            if self.postgres is not None:
                database = starting.enter_context(self.postgres).start()
            if self.valkey is not None:
                broker = starting.enter_context(self.valkey).start()
            urls = ServiceUrls(database=database, broker=broker)
            write_private(running, _to_json(urls), uid=os.geteuid(), gid=os.getegid())
            starting.callback(running.unlink, missing_ok=True)
            self._started = starting.pop_all()
        return urls

    def stop(self) -> None:
        """Stop what was started, the broker before the database, and give the folder back; can be called again.

        Raises:
            EmbeddedServiceError: if a server cannot be stopped; the others are stopped all the same.
        """
        self._started.close()

    def ended(self) -> str | None:
        """Say which started server has ended by itself, with the end of its log; None while all of them run."""
        for name, service in (("PostgreSQL", self.postgres), ("Valkey", self.valkey)):
            if service is not None and service.process is not None and service.process.poll() is not None:
                return f"{name} has ended (exit status {service.process.returncode}); {service.log_ending}"
        return None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def running_services(home: Path) -> ServiceUrls | None:
    """Return where the services of an `evergrant up` on `home` listen; None where none is running.

    For commands given beside a running `evergrant up` by the same user, without settings of their own.

    Raises:
        EmbeddedServiceError: if the folder is another user's.
    """
    if not is_held(home):
        return None
    try:
        return _from_json((home / _RUNNING_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None  # it is still starting, or already stopping


def _to_json(urls: ServiceUrls) -> str:
    revealed = {
        "database_url": None if urls.database is None else urls.database.reveal(),
        "broker_url": None if urls.broker is None else urls.broker.reveal(),
    }
    return json.dumps(revealed, indent=2) + "\n"


def _from_json(text: str) -> ServiceUrls:
    revealed: dict[str, str | None] = json.loads(text)

    def secret(name: str) -> Secret | None:
        value = revealed[name]
        return None if value is None else Secret(value)

    return ServiceUrls(database=secret("database_url"), broker=secret("broker_url"))
