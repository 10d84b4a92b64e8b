"""How many workers a database knows to be there, by their session locks."""

from __future__ import annotations

import psycopg

from worker.storage.presence import PRESENCE


def workers_present(database_url: str) -> int:
    """Return how many workers hold their lock in a database now."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = %s::oid AND database = "
        own = "(SELECT oid FROM pg_database WHERE datname = current_database())"
        row = connection.execute(locks + own, [PRESENCE]).fetchone()
    assert row is not None
    return int(row[0])
