"""The outbox of webhooks: the event log is read once for each endpoint, and what an endpoint wants becomes deliveries.

Nothing is done about webhooks where events are written. An endpoint's place in the log and its new deliveries are
stored in one transaction, and the log is read only up to where nothing can appear any more: each event comes to each
endpoint that wants it, however late its transaction ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.domain.events import EventType
from worker.storage.event_log import last_certain

#: Deliveries that wait for one endpoint at most: beyond, events wait in the log alone, so that an endpoint that is away
#: for days costs little.
WINDOW: Final = 10_000
#: Events read in one transaction: some milliseconds.
BATCH: Final = 2_000
#: Transactions for one endpoint and call.
ROUNDS: Final = 5
#: Looks whether writers have ended: the next call comes within a second.
_LOOKS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What an endpoint wants, and what its address is known by."""

    endpoint: str
    url_fingerprint: str
    events: frozenset[EventType]
    clients: frozenset[str] | None  #: None: every client's

    @property
    def columns(self) -> dict[str, Any]:
        """Return what the statements ask for."""
        clients = sorted(self.clients) if self.clients is not None else None
        return {"endpoint": self.endpoint, "types": sorted(self.events), "clients": clients}


#: An event is wanted: its type, and its client where those are chosen.
WANTED: Final = """
    e.type = ANY(CAST(:types AS text[]))
    AND (CAST(:clients AS text[]) IS NULL OR e.client = ANY(CAST(:clients AS text[])))
"""
#: Events of one lane reach an endpoint one after the other.
LANE: Final = "CAST(:endpoint AS text) || ' ' || coalesce(CAST(e.grant_id AS text), e.client)"

_KNOWN: Final = text("""
    SELECT name, url_fingerprint, read_until FROM webhook_endpoints WHERE name = ANY(CAST(:names AS text[]))
""")
_LAST: Final = text("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM events_id_seq")
# An endpoint that said 410 has moved: it is asked again.
_ADD: Final = text("""
    INSERT INTO webhook_endpoints AS w (name, url_fingerprint, read_until)
    VALUES (:endpoint, :url_fingerprint, :last)
    ON CONFLICT (name) DO UPDATE
       SET url_fingerprint = excluded.url_fingerprint, failures = 0, held_until = NULL,
           paused_at = CASE WHEN w.paused_reason = 'gone' THEN NULL ELSE w.paused_at END,
           paused_reason = CASE WHEN w.paused_reason = 'gone' THEN NULL ELSE w.paused_reason END
     WHERE w.url_fingerprint <> excluded.url_fingerprint
""")
# The place is a value of its own and the batch a constant, so that the log is read along its key whatever the
# statistics say.
_READ: Final = text(f"""
    WITH place AS (
        SELECT read_until FROM webhook_endpoints
         WHERE name = :endpoint AND paused_at IS NULL AND read_until < :last
           FOR UPDATE SKIP LOCKED),
    room AS (
        SELECT least(:window - count(*), {BATCH}) AS places FROM (
            SELECT FROM webhook_deliveries WHERE endpoint = :endpoint AND dead_at IS NULL LIMIT :window) AS waiting),
    log AS (
        SELECT * FROM (
            SELECT id, type, client, grant_id FROM events
             WHERE id > (SELECT read_until FROM place) AND id <= :last ORDER BY id LIMIT {BATCH}) AS batch
         LIMIT (SELECT places FROM room)),
    added AS (
        INSERT INTO webhook_deliveries (endpoint, event_id, lane)
        SELECT :endpoint, e.id, {LANE} FROM log AS e WHERE {WANTED}
        ON CONFLICT DO NOTHING)
    UPDATE webhook_endpoints AS w
       SET read_until = CASE WHEN (SELECT count(*) FROM log) < (SELECT places FROM room) THEN :last
                             ELSE coalesce((SELECT max(id) FROM log), w.read_until) END
      FROM place
     WHERE w.name = :endpoint
    RETURNING w.read_until < :last AND (SELECT places FROM room) > 0 AS has_more
""")  # noqa: S608 -- the inserted text is a constant of this module


class WebhookOutbox:
    """Reads the event log for endpoints."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def read(self, wanted: Sequence[Wanted]) -> None:
        """Make deliveries of what has happened since; an endpoint that is new begins with what happens from now on.

        Args:
            wanted: all endpoints that are configured.

        """
        async with self._engine.connect() as connection:
            names = {"names": [found.endpoint for found in wanted]}
            known = {row.name: row for row in await connection.execute(_KNOWN, names)}
            newest: int = (await connection.execute(_LAST)).scalar_one()
            changed = [
                found
                for found in wanted
                if found.endpoint not in known or known[found.endpoint].url_fingerprint != found.url_fingerprint
            ]
            if not changed and all(row.read_until >= newest for row in known.values()):
                return  # the usual case: nothing has happened
            await connection.rollback()
            last = await last_certain(connection, looks=_LOOKS)
        if last is None:
            return  # the next call looks again
        for found in changed:
            async with self._engine.begin() as connection:
                columns = {"endpoint": found.endpoint, "url_fingerprint": found.url_fingerprint, "last": last}
                await connection.execute(_ADD, columns)
        for found in wanted:
            await self._read(found, last)

    async def _read(self, wanted: Wanted, last: int) -> None:
        columns = {**wanted.columns, "last": last, "window": WINDOW}
        for _round in range(ROUNDS):
            async with self._engine.begin() as connection:
                row = (await connection.execute(_READ, columns)).one_or_none()
            if row is None or not row.has_more:
                return
