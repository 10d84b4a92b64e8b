"""The scan: what is due, per client, counted up to a bound so that it costs the same with a million overdue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.domain.dispatch import COUNTED_AT_MOST, DueGrants

_DUE: Final = text("""
    SELECT c.client, due.found, due.oldest
      FROM unnest(CAST(:clients AS text[])) AS c (client)
      LEFT JOIN client_status AS status ON status.client = c.client
     CROSS JOIN LATERAL (
           SELECT count(*) AS found, min(rotate_at) AS oldest
             FROM (SELECT rotate_at FROM grants
                    WHERE client = c.client AND leased_until IS NULL AND rotate_at <= now()
                    ORDER BY rotate_at LIMIT :counted) AS counted) AS due
     WHERE due.found > 0
       AND NOT coalesce(status.paused_by_operator, false)
       AND coalesce(status.throttled_until, now()) <= now()
       AND (status.breaker_opened_at IS NULL OR status.canary_at <= now())
""")


async def count_due(engine: AsyncEngine, clients: Sequence[str]) -> list[DueGrants]:
    """Return what is due of the given clients; one that is held back now is left out."""
    async with engine.connect() as connection:
        rows = await connection.execute(_DUE, {"clients": list(clients), "counted": COUNTED_AT_MOST})
        return [DueGrants(client=row.client, count=row.found, oldest=row.oldest) for row in rows]
