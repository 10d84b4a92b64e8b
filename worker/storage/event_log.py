"""Reading events for those who follow them: in the order of their ids, none left out.

An id is taken before its transaction commits, so an event may appear behind one that has been read already. Whoever
then goes on after the later one would never see it. So nothing is given out before every transaction that might still
bring an earlier event has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

#: How often to look whether the transactions that write events have ended, seconds: they take a few milliseconds.
_LOOK_EVERY: Final = 0.01
#: Looks before the answer is that there is nothing new yet: whoever follows asks again anyway.
_LOOKS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEvent:
    """One event, without anything secret."""

    id: int
    at: datetime
    type: str
    client: str
    grant_id: UUID | None
    subject: str | None
    data: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPage:
    """Events, newest last, and the id after which to go on."""

    events: Sequence[LoggedEvent]
    after: int


_LAST: Final = text("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM events_id_seq")
# Each transaction that inserts an event holds this lock until its end, from before it takes an id.
_WRITERS: Final = text("""
    SELECT virtualtransaction FROM pg_locks
     WHERE locktype = 'relation' AND relation = CAST('events' AS regclass) AND mode = 'RowExclusiveLock'
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
""")
_COLUMNS: Final = "SELECT id, at, type, client, grant_id, subject, data FROM events WHERE id > :after AND id <= :last"
#: What is not asked for does not stand in the statement: so each is read along an index of its own.
_FILTERS: Final = {"client": "client = :client", "grant_id": "grant_id = :grant_id"}


def _read(filters: Iterable[str]) -> TextClause:
    conditions = "".join(f" AND {_FILTERS[name]}" for name in filters)
    return text(f"{_COLUMNS}{conditions} ORDER BY id LIMIT :limit")


async def read_events(
    engine: AsyncEngine, *, after: int, limit: int, client: str | None = None, grant_id: UUID | None = None
) -> EventPage:
    """Return what happened after an event.

    Args:
        engine: the process's connections.
        after: id of the last event that was read; 0 for the beginning.
        limit: at most so many.
        client: only this client's.
        grant_id: only this grant's.

    """
    async with engine.connect() as connection:
        last = await last_certain(connection)
        if last is None or last <= after:
            return EventPage(events=(), after=after)
        filters = {name: value for name, value in (("client", client), ("grant_id", grant_id)) if value is not None}
        looked_for = {"after": after, "last": last, "limit": limit, **filters}
        found = (await connection.execute(_read(filters), looked_for)).all()
    events = [LoggedEvent(**row._mapping) for row in found]  # noqa: SLF001 -- SQLAlchemy's public name
    return EventPage(events=events, after=events[-1].id if len(events) == limit else last)


async def last_certain(connection: AsyncConnection, *, looks: int = _LOOKS) -> int | None:
    """Return an id up to which nothing can appear any more; None while that is not certain.

    Args:
        connection: outside of any transaction.
        looks: how often to look whether the transactions that write events have ended.

    """
    last: int = (await connection.execute(_LAST)).scalar_one()
    writing = set((await connection.execute(_WRITERS)).scalars())
    for _look in range(looks):
        if not writing:
            return last
        # Nothing is held while waiting: each statement sees what is committed by then.
        await connection.rollback()
        await asyncio.sleep(_LOOK_EVERY)
        writing &= set((await connection.execute(_WRITERS)).scalars())
    return None if writing else last
