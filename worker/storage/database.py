"""Connections to PostgreSQL, with limits on every wait."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import URL, Engine, Row, TextClause, make_url
from sqlalchemy import create_engine as create_blocking_engine
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from worker.domain.errors import ConfigurationError
from worker.domain.secret import Secret

#: Seconds to wait for a connection: PostgreSQL answers in milliseconds, a failover in more than we want to block for.
CONNECT_SECONDS: Final = 5
#: Milliseconds a statement may take; the slowest regular one is a scan of some milliseconds.
STATEMENT_MS: Final = 10_000
#: Milliseconds to wait for a row lock: claims and settles hold one for about a millisecond.
LOCK_MS: Final = 5_000
#: Milliseconds a transaction may idle: none of ours waits for anything but the database.
IDLE_IN_TRANSACTION_MS: Final = 10_000


def database_url(configured: Secret) -> URL:
    """Read EVERGRANT_DATABASE_URL and choose the driver.

    Raises:
        ConfigurationError: when it is not a PostgreSQL URL; the message does not repeat it, for it may hold a password.

    """
    try:
        url = make_url(configured.reveal())
    except (ArgumentError, ValueError):  # the latter for a port that is no number, as an unescaped @ can make it
        raise ConfigurationError("EVERGRANT_DATABASE_URL is not a URL such as postgresql://user@host/name") from None
    if url.get_backend_name() not in {"postgresql", "postgres"}:
        raise ConfigurationError(
            f"EVERGRANT_DATABASE_URL names {url.get_backend_name()!r}; it must be postgresql:// (14 or newer)"
        )
    return url.set(drivername="postgresql+psycopg")


def create_engine(configured: Secret, *, connections: int, name: str) -> AsyncEngine:
    """Create the engine of one process's event loop.

    Args:
        configured: EVERGRANT_DATABASE_URL.
        connections: how many this process may hold at once.
        name: shown in `pg_stat_activity` as the application.

    """
    return create_async_engine(database_url(configured), pool_pre_ping=True, **_options(connections, name))


def create_read_engine(configured: Secret, *, connections: int, name: str) -> AsyncEngine:
    """Create the engine for reads that somebody waits for: each is one way to the database and back.

    There is no transaction around them, and no question whether the connection is still alive: `read_one` asks again.

    Args:
        configured: EVERGRANT_DATABASE_URL.
        connections: how many this process may hold at once.
        name: shown in `pg_stat_activity` as the application.

    """
    # A crowd takes turns: whoever waits for a connection waits as long as a statement may take. Nothing is to be undone
    # when a connection goes back.
    options = {**_options(connections, name), "pool_timeout": STATEMENT_MS / 1000, "pool_reset_on_return": None}
    return create_async_engine(database_url(configured), isolation_level="AUTOCOMMIT", **options)


async def read_one(engine: AsyncEngine, statement: TextClause, parameters: Mapping[str, object]) -> Row[Any] | None:
    """Read one row, or none, on a connection of a read engine.

    Args:
        engine: made by `create_read_engine`.
        statement: a SELECT that finds one row at most.
        parameters: its values.

    """
    try:
        async with engine.connect() as connection:
            return (await connection.execute(statement, parameters)).one_or_none()
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
    # A failover or a pooler had closed the connection; with it the pool has given up all that were as old.
    async with engine.connect() as connection:
        return (await connection.execute(statement, parameters)).one_or_none()


def create_settle_engine(configured: Secret, *, connections: int, name: str) -> Engine:
    """Create the engine of the committing threads.

    Each statement commits by itself. A connection is not asked whether it is still alive before it is used, which would
    be a way to the database and back: the first statement after a failover fails, and a settle is safe to repeat.

    Args:
        configured: EVERGRANT_DATABASE_URL.
        connections: how many threads may hold one at once.
        name: shown in `pg_stat_activity` as the application.

    """
    options = _options(connections, name)
    return create_blocking_engine(database_url(configured), isolation_level="AUTOCOMMIT", **options)


def create_claim_engine(configured: Secret, *, connections: int, name: str) -> Engine:
    """Create the engine of the claiming threads; `Claims` tries again where a connection was closed meanwhile.

    Args:
        configured: EVERGRANT_DATABASE_URL.
        connections: how many threads may hold one at once.
        name: shown in `pg_stat_activity` as the application.

    """
    return create_blocking_engine(database_url(configured), **_options(connections, name))


def _options(connections: int, name: str) -> Mapping[str, Any]:
    return {
        "pool_size": connections,
        "max_overflow": 0,
        "pool_timeout": CONNECT_SECONDS,
        "pool_recycle": 1800,
        "hide_parameters": True,
        "connect_args": {
            "connect_timeout": CONNECT_SECONDS,
            # A connection whose other end has vanished is noticed within seconds, not when TCP gives up.
            "tcp_user_timeout": STATEMENT_MS,
            "keepalives_idle": CONNECT_SECONDS,
            "keepalives_interval": CONNECT_SECONDS,
            "keepalives_count": 2,
            "application_name": name,
            "options": f"-c statement_timeout={STATEMENT_MS} -c lock_timeout={LOCK_MS} "
            f"-c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_MS} -c timezone=UTC",
        },
    }
