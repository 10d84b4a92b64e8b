"""How migrations run: online only, one transaction each, with limits on every wait and one migrator at a time."""

from __future__ import annotations

import os
import time
from typing import Final

from sqlalchemy import Connection, create_engine, pool, text

from alembic import context
from worker.settings import load_settings
from worker.storage.database import CONNECT_SECONDS, database_url
from worker.storage.tables import Base

#: Whoever migrates holds this advisory lock, so that two that start together take turns. Spells "EVGR".
ADVISORY_LOCK: Final = 0x45564752
#: A migration that cannot have its lock soon must not queue up behind a long reader, with everybody else behind it.
LOCK_TIMEOUT: Final = "5s"
#: Ample for a change of the catalogue; data is moved in batches outside of migrations.
STATEMENT_TIMEOUT: Final = "60s"
#: How long to wait for another migrator, and how long between looks, seconds.
TURN_SECONDS: Final = 120.0
LOOK_EVERY: Final = 0.1


def run_migrations() -> None:
    """Connect as configured, or use the connection that `worker.storage.schema` handed over, and migrate."""
    connection = context.config.attributes.get("connection")
    if connection is not None:
        _migrate(connection)
        return
    settings = load_settings(os.environ)
    engine = create_engine(
        database_url(settings.require_database()),
        poolclass=pool.NullPool,
        hide_parameters=True,
        connect_args={"connect_timeout": CONNECT_SECONDS, "application_name": "evergrant migrate"},
    )
    with engine.connect() as opened:
        _migrate(opened)
    engine.dispose()


def _migrate(connection: Connection) -> None:
    _take_turn(connection)
    connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
    limit = context.config.attributes.get("statement_timeout", STATEMENT_TIMEOUT)
    connection.execute(text("SELECT set_config('statement_timeout', :limit, false)"), {"limit": limit})
    connection.commit()
    try:
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            compare_type=True,
            compare_server_default=True,
            transaction_per_migration=True,
        )
        with context.begin_transaction():
            context.run_migrations()
    finally:
        connection.rollback()
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": ADVISORY_LOCK})
        connection.commit()


def _take_turn(connection: Connection) -> None:
    # Asked for again and again: whoever waits inside of a statement is waited for by an index that is made concurrently.
    for _look in range(round(TURN_SECONDS / LOOK_EVERY)):
        taken = connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": ADVISORY_LOCK}).scalar_one()
        connection.commit()
        if taken:
            return
        time.sleep(LOOK_EVERY)
    raise SystemExit("another migration has been under way for two minutes: wait for it, then try again")


if context.is_offline_mode():
    raise SystemExit("migrations run against a database; give EVERGRANT_DATABASE_URL and leave out --sql")
run_migrations()
