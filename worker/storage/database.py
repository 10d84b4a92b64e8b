"""Connections to PostgreSQL, with limits on every wait."""

from __future__ import annotations

from typing import Final

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError
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
    """Create the engine of one process.

    Args:
        configured: EVERGRANT_DATABASE_URL.
        connections: how many this process may hold at once.
        name: shown in `pg_stat_activity` as the application.

    """
    return create_async_engine(
        database_url(configured),
        pool_size=connections,
        max_overflow=0,
        pool_timeout=CONNECT_SECONDS,
        # A connection that a failover or a pooler has closed is noticed before it is used.
        pool_pre_ping=True,
        pool_recycle=1800,
        hide_parameters=True,
        connect_args={
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
    )
