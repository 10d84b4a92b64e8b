"""Sessions of workers that began before a key was first used: those processes may not have it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

# Only what lasts as long as its process tells when that began: a worker's presence. Pooled connections are younger.
_OLD: Final = text("""
    SELECT a.application_name, a.backend_start
      FROM pg_stat_activity AS a
      JOIN sealing_keys AS k ON k.id = :key_id AND a.backend_start < k.first_used_at
     WHERE a.datname = current_database() AND a.application_name LIKE 'evergrant %'
       AND a.application_name NOT LIKE 'evergrant cli%' AND a.pid <> pg_backend_pid()
     ORDER BY a.backend_start
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class OldSession:
    """A process that was running before the key was there."""

    name: str
    since: datetime


async def sessions_older_than(engine: AsyncEngine, key_id: str) -> Sequence[OldSession]:
    """Return the sessions of processes that have run since before a key was first used for sealing."""
    async with engine.connect() as connection:
        rows = (await connection.execute(_OLD, {"key_id": key_id})).all()
    return [OldSession(name=row.application_name, since=row.backend_start) for row in rows]
