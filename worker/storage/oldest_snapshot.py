"""How far back the oldest snapshot of this database reaches: what it may still see, no vacuum removes.

With a long-open snapshot the claims walk over ever more dead index entries: one that takes 25 ms takes 130 ms after a
while, and an idle scan 124 ms instead of half a millisecond.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

# As PostgreSQL's GetOldestNonRemovableTransactionId reckons for ordinary tables: this database's sessions, by their
# snapshot or their own transaction, and standbys' feedback; not a running vacuum, which looks at no row's content. A
# slot's catalog_xmin holds back the system catalogs only: a slow logical subscriber is no reason for an alarm here.
_OLDEST: Final = text("""
    SELECT greatest(
        (SELECT max(greatest(age(backend_xmin), age(backend_xid))) FROM pg_stat_activity AS session
          WHERE (datname = current_database() OR backend_type = 'walsender')
            AND NOT EXISTS (SELECT FROM pg_stat_progress_vacuum AS vacuum WHERE vacuum.pid = session.pid)),
        (SELECT max(age(xmin)) FROM pg_replication_slots),
        (SELECT max(age(transaction)) FROM pg_prepared_xacts WHERE database = current_database()),
        0)
""")


async def read_oldest_snapshot(engine: AsyncEngine) -> int:
    """Return how many transactions have begun since the oldest snapshot that keeps dead rows from being removed.

    Sessions of other roles are seen only by a member of `pg_read_all_stats`; replication slots and prepared
    transactions by everybody.
    """
    async with engine.connect() as connection:
        found: int = (await connection.execute(_OLDEST)).scalar_one()
    return found
