"""Removing what nobody needs any more, a little at a time."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.storage.idempotency import KEPT

#: Rows removed per transaction: a few milliseconds, so that nothing waits behind it.
LIMIT: Final = 5_000
#: Transactions per table and call: with a call a minute 8,000 rows a second, far more than the fastest workers add.
ROUNDS: Final = 100
#: A state that comes back later than this was copied from somewhere; "unknown" is answer enough by then.
AUTHORIZATION_REQUESTS: Final = timedelta(days=1)
#: What happened is kept for a quarter of a year: longer than a reminder or a complaint takes to come.
EVENTS: Final = timedelta(days=90)
#: A mail is told of as long as the events are; none that waits is that old.
RECONSENT_MAILS: Final = EVENTS
#: Past its end a session or a link that signs in tells nobody anything; the audit log does.
SESSIONS: Final = timedelta(days=1)
#: As long as `worker.storage.idempotency` answers out of them.
IDEMPOTENT_REQUESTS: Final = KEPT

#: Pages of `adopted_tokens` looked at in one transaction: they hold some `LIMIT` rows.
ADOPTED_PAGES: Final = 64
#: Such parts of it looked at in one call, from a page by chance on: with a call a minute, most of ten million rows have
#: been looked at after two hours, and nearly all after half a day.
ADOPTED_PARTS: Final = 20

_BY_AGE: Final = {
    # What lets nobody in any more is told of for as long as the events are.
    "api_tokens": (
        text("""
            DELETE FROM api_tokens WHERE id IN (
                SELECT id FROM api_tokens WHERE least(revoked_at, expires_at) < now() - CAST(:age AS interval)
                 LIMIT :limit)
        """),
        EVENTS,
    ),
    "authorization_requests": (
        text("""
            DELETE FROM authorization_requests WHERE state_hash IN (
                SELECT state_hash FROM authorization_requests WHERE expires_at < now() - CAST(:age AS interval)
                 LIMIT :limit)
        """),
        AUTHORIZATION_REQUESTS,
    ),
    "idempotent_requests": (
        text("""
            DELETE FROM idempotent_requests WHERE id IN (
                SELECT id FROM idempotent_requests WHERE began_at < now() - CAST(:age AS interval)
                 ORDER BY began_at LIMIT :limit)
        """),
        IDEMPOTENT_REQUESTS,
    ),
    "reconsent_mails": (
        text("""
            DELETE FROM reconsent_mails WHERE id IN (
                SELECT id FROM reconsent_mails WHERE created_at < now() - CAST(:age AS interval)
                   AND state NOT IN ('waiting', 'sending')
                 ORDER BY created_at LIMIT :limit)
        """),
        RECONSENT_MAILS,
    ),
    "sessions": (
        text("""
            DELETE FROM sessions WHERE id IN (
                SELECT id FROM sessions WHERE expires_at < now() - CAST(:age AS interval) LIMIT :limit)
        """),
        SESSIONS,
    ),
    "sign_in_links": (
        text("""
            DELETE FROM sign_in_links WHERE id IN (
                SELECT id FROM sign_in_links WHERE expires_at < now() - CAST(:age AS interval) LIMIT :limit)
        """),
        SESSIONS,
    ),
    # Before the events that they are about: dead ones, and those of endpoints that are configured no more.
    "webhook_deliveries": (
        text("""
            DELETE FROM webhook_deliveries WHERE (endpoint, event_id) IN (
                SELECT endpoint, event_id FROM webhook_deliveries WHERE event_id < (
                    SELECT id FROM events WHERE at >= now() - CAST(:age AS interval) ORDER BY id LIMIT 1)
                 LIMIT :limit)
        """),
        EVENTS,
    ),
}

# The rows of these two come in the order of their ids, and leave in it: only the front is looked at, never the table,
# and what this call has removed already is not passed over again.
_OF_THE_FRONT: Final = """
    WITH removed AS (
        DELETE FROM {table} WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM (SELECT ctid, at FROM {table} WHERE id > :after ORDER BY id LIMIT :limit) AS oldest
             WHERE at < now() - CAST(:age AS interval)))
        RETURNING id)
    SELECT count(*) AS found, coalesce(max(id), 0) AS last FROM removed
"""
_ROTATIONS: Final = text(_OF_THE_FRONT.format(table="rotations"))
_EVENTS: Final = text(_OF_THE_FRONT.format(table="events"))


# The one way in which the log's trigger lets rows go.
_AUDIT: Final = text("SELECT prune_audit_log(CAST(:age AS interval), CAST(:limit AS integer))")


# An erasure takes a grant's fingerprints along; these are of grants that went otherwise, by hand or before it did. No
# index tells which they are, so the table is gone through part by part, from anywhere: were it from where a clock says,
# the same part could be passed over again and again.
_PARTS_OF_ADOPTED: Final = text("""
    SELECT parts, CAST(floor(random() * parts) AS bigint) AS first
      FROM (SELECT CAST(ceil(pg_relation_size('adopted_tokens')
                             / (CAST(current_setting('block_size') AS float8) * :pages)) AS bigint) AS parts) AS size
""")
# The subquery is a look into an index for each row, never a join that reads all grants.
_OF_GRANTS_THAT_ARE_GONE: Final = text("""
    DELETE FROM adopted_tokens WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM adopted_tokens AS t
         WHERE ctid >= CAST(:first AS tid) AND ctid < CAST(:next AS tid)
           AND (SELECT g.id FROM grants AS g WHERE g.id = t.grant_id) IS NULL))
""")


async def prune(
    engine: AsyncEngine, *, keep_rotations: timedelta, keep_audit: timedelta, keep_events: timedelta = EVENTS
) -> int:
    """Remove rows past their age; returns how many.

    Args:
        engine: the process's connections.
        keep_rotations: how long a grant's lineage is kept.
        keep_audit: how long the audit log is kept.
        keep_events: how long events are kept, with deliveries and mails.

    """
    removed = 0
    for statement, default in _BY_AGE.values():
        age = keep_events if default is EVENTS else default
        for _round in range(ROUNDS):
            async with engine.begin() as connection:
                found = (await connection.execute(statement, {"age": age, "limit": LIMIT})).rowcount
            removed += found
            if found < LIMIT:
                break
    for _round in range(ROUNDS):
        async with engine.begin() as connection:
            found = (await connection.execute(_AUDIT, {"age": keep_audit, "limit": LIMIT})).scalar_one()
        removed += found
        if found < LIMIT:
            break
    for statement, age in ((_ROTATIONS, keep_rotations), (_EVENTS, keep_events)):
        after = 0
        for _round in range(ROUNDS):
            async with engine.begin() as connection:
                looked_for = {"age": age, "limit": LIMIT, "after": after}
                row = (await connection.execute(statement, looked_for)).one()
            removed, after = removed + row.found, row.last
            if row.found < LIMIT:
                break
    return removed + await _prune_adopted(engine)


async def _prune_adopted(engine: AsyncEngine) -> int:
    """Remove fingerprints whose grant is gone, in some parts of their table; returns how many."""
    async with engine.connect() as connection:
        table = (await connection.execute(_PARTS_OF_ADOPTED, {"pages": ADOPTED_PAGES})).one()
    removed = 0
    for number in range(min(table.parts, ADOPTED_PARTS)):
        page = (table.first + number) % table.parts * ADOPTED_PAGES
        looked_for = {"first": f"({page},0)", "next": f"({page + ADOPTED_PAGES},0)"}
        async with engine.begin() as connection:
            removed += (await connection.execute(_OF_GRANTS_THAT_ARE_GONE, looked_for)).rowcount
    return removed
