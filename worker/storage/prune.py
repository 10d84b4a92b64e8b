"""Removing what nobody needs any more, a little at a time."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.storage.idempotency import KEPT

#: Rows removed per transaction: a few milliseconds, so that nothing waits behind it.
LIMIT: Final = 5_000
#: Transactions per table and call: with a call a minute, far more than the fastest worker adds.
ROUNDS: Final = 100
#: A state that comes back later than this was copied from somewhere; "unknown" is answer enough by then.
AUTHORIZATION_REQUESTS: Final = timedelta(days=1)
#: The lineage answers "what happened to this grant last week"; events keep the milestones.
ROTATIONS: Final = timedelta(days=7)
#: What happened is kept for a quarter of a year: longer than a reminder or a complaint takes to come.
EVENTS: Final = timedelta(days=90)
#: A mail is told of as long as the events are; none that waits is that old.
RECONSENT_MAILS: Final = EVENTS
#: As long as `worker.storage.idempotency` answers out of them.
IDEMPOTENT_REQUESTS: Final = KEPT

_PRUNE: Final = {
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
    "rotations": (
        text("""
            DELETE FROM rotations WHERE id IN (
                SELECT id FROM rotations WHERE at < now() - CAST(:age AS interval) ORDER BY id LIMIT :limit)
        """),
        ROTATIONS,
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
    "events": (
        text("""
            DELETE FROM events WHERE id IN (
                SELECT id FROM events WHERE at < now() - CAST(:age AS interval) ORDER BY id LIMIT :limit)
        """),
        EVENTS,
    ),
}


async def prune(engine: AsyncEngine) -> int:
    """Remove rows past their age; returns how many."""
    removed = 0
    for statement, age in _PRUNE.values():
        for _round in range(ROUNDS):
            async with engine.begin() as connection:
                found = (await connection.execute(statement, {"age": age, "limit": LIMIT})).rowcount
            removed += found
            if found < LIMIT:
                break
    return removed
