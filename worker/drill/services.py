"""The drill's PostgreSQL and Valkey: durable, thrown away afterwards, behind proxies that keep their addresses.

Each has two proxies: one that faults are committed on, for Evergrant, and one that is left alone, for the drill.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit, urlunsplit

from worker.domain.secret import Secret
from worker.drill.tcp_proxy import LOOPBACK, TcpProxy
from worker.embedded import EmbeddedPostgres, EmbeddedValkey

#: Seconds for a server to end after the signal that a fault sends; then it is stopped by force.
_ENDS_WITHIN: Final = 20.0


class DrillServices:
    """Both servers, from `__enter__` to `__exit__`. Call it from the main thread, which the servers are bound to.

    Args:
        home: the drill's folder.
        token: gives an unguessable password; asked once for each server, so that a restart changes nothing.
        monotonic: a clock in seconds.

    Attributes:
        database: the proxy before PostgreSQL that faults are committed on.
        broker: the same before Valkey.

    """

    def __init__(self, home: Path, *, token: Callable[[], str], monotonic: Callable[[], float]) -> None:
        database_password, broker_password = token(), token()
        self._postgres = EmbeddedPostgres(home / "postgres", token=lambda: database_password, monotonic=monotonic)
        self._valkey = EmbeddedValkey(home / "valkey", token=lambda: broker_password, monotonic=monotonic)
        self.database, self.broker = TcpProxy(), TcpProxy()
        self._own_database, self._own_broker = TcpProxy(), TcpProxy()
        self._started = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as starting:
            for proxy in (self.database, self.broker, self._own_database, self._own_broker):
                starting.enter_context(proxy)
            starting.callback(self._postgres.stop)
            starting.callback(self._valkey.stop)
            self._database_url = self.start_database()
            self._broker_url = self.start_broker()
            self._started = starting.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._started.close()

    @property
    def database_url(self) -> Secret:
        """Return where Evergrant finds its database: through the proxy that faults are committed on."""
        return _through(self._database_url, self.database)

    @property
    def broker_url(self) -> Secret:
        """Return where Evergrant finds its broker: through the proxy that faults are committed on."""
        return _through(self._broker_url, self.broker)

    @property
    def own_database_url(self) -> Secret:
        """Return where the drill finds the database, whatever happens to Evergrant's connections."""
        return _through(self._database_url, self._own_database)

    @property
    def own_broker_url(self) -> Secret:
        """Return where the drill finds the broker, whatever happens to Evergrant's connections."""
        return _through(self._broker_url, self._own_broker)

    def start_database(self) -> Secret:
        """Start PostgreSQL, where it is not running, and lead both proxies to it."""
        url = self._postgres.start()
        _lead(url, self.database, self._own_database)
        return url

    def start_broker(self) -> Secret:
        """Start Valkey, where it is not running, and lead both proxies to it."""
        url = self._valkey.start()
        _lead(url, self.broker, self._own_broker)
        return url

    def stop_database(self, how: signal.Signals) -> None:
        """End PostgreSQL: SIGINT is its fast shutdown, SIGQUIT its immediate one, after which it replays its log."""
        _end(self._postgres.process, how)
        self._postgres.stop()

    def stop_broker(self, how: signal.Signals) -> None:
        """End Valkey: SIGTERM in order, SIGKILL with what it has not written yet lost."""
        _end(self._valkey.process, how)
        self._valkey.stop()


def _end(process: subprocess.Popen[bytes] | None, how: signal.Signals) -> None:
    if process is not None and process.poll() is None:
        process.send_signal(how)
        try:
            process.wait(_ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            return  # the service's own stop goes on from here


def _lead(url: Secret, *proxies: TcpProxy) -> None:
    port = urlsplit(url.reveal()).port
    assert port is not None
    for proxy in proxies:
        proxy.lead_to(port)


def _through(url: Secret, proxy: TcpProxy) -> Secret:
    parts = urlsplit(url.reveal())
    user, at, _address = parts.netloc.rpartition("@")
    return Secret(urlunsplit(parts._replace(netloc=f"{user}{at}{LOOPBACK}:{proxy.port}")))
