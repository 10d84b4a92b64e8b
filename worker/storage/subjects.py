"""What is stored about one subject, for whoever asks to see it or to have it erased.

Tokens are in none of it: they belong to the grant, not to what is known about its owner. The audit log keeps who did
what, for as long as it is kept: nothing takes single entries out of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncEngine

#: Events that one statement looks through for those that name a subject and no grant.
EVENT_WINDOW: Final = 50_000
#: Rows removed in one transaction.
LIMIT: Final = 5_000

_CLIENTS: Final = text("SELECT DISTINCT client FROM grant_counts")
_GRANTS: Final = text("""
    SELECT id, client, subject, state, state_since, state_reason, generation, issued_at, access_expires_at,
           refresh_expires_at, scopes, lost_scopes, account, email, consented_at, rotated_at, rotate_at, created_at
      FROM grants WHERE client = ANY(CAST(:clients AS text[])) AND subject = :subject
""")
_OF_GRANTS: Final = {
    "rotations": text("SELECT id, at, client, generation FROM rotations WHERE grant_id = ANY(:ids) ORDER BY id"),
    "events": text("SELECT id, at, type, client, data FROM events WHERE grant_id = ANY(:ids) ORDER BY id"),
    "mails": text("""
        SELECT id, client, kind, recipient, state, due_at, sent_at, last_error, created_at FROM reconsent_mails
         WHERE grant_id = ANY(:ids) ORDER BY created_at
    """),
    "audit": text("SELECT id, at, act, outcome, client FROM audit_log WHERE grant_id = ANY(:ids) ORDER BY id"),
}
_REQUESTS: Final = text("""
    SELECT client, email, created_at, expires_at, used_at, ended FROM authorization_requests
     WHERE client = ANY(CAST(:clients AS text[])) AND subject = :subject ORDER BY created_at
""")

_ERASE_REQUESTS: Final = text("""
    DELETE FROM authorization_requests WHERE client = ANY(CAST(:clients AS text[])) AND subject = :subject
""")
# Before the row, which is what a repetition finds them by: there may be more than one transaction should hold.
_ERASE_ROTATIONS: Final = text("""
    DELETE FROM rotations WHERE id IN (SELECT id FROM rotations WHERE grant_id = :id ORDER BY id LIMIT :limit)
""")
# With the row. Deliveries before the events that they are about.
_ERASE_OF_GRANT: Final = (
    text("""
        DELETE FROM webhook_deliveries AS d USING webhook_endpoints AS e, events AS v
         WHERE v.grant_id = :id AND d.endpoint = e.name AND d.event_id = v.id
    """),
    text("DELETE FROM events WHERE grant_id = :id"),
    text("DELETE FROM reconsent_mails WHERE grant_id = :id"),
    text("DELETE FROM rotations WHERE grant_id = :id"),
    # No index leads there: an erasure is rare, and reads ten million of these in a second or two.
    text("DELETE FROM adopted_tokens WHERE grant_id = :id"),
)
# A request that is under way would bring tokens to a row that is gone; whoever erases has waited for its end.
_ERASE_GRANT: Final = text("DELETE FROM grants WHERE id = :id AND leased_until IS NULL")
_LAST_EVENT: Final = text("SELECT coalesce(min(id), 0) AS first, coalesce(max(id), 0) AS last FROM events")
_ERASE_NAMED: Final = text("""
    DELETE FROM events WHERE id >= :first AND id < :next
       AND client = ANY(CAST(:clients AS text[])) AND subject = :subject
""")


class Subjects:
    """Reads and erases what is stored about subjects."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def clients(self) -> list[str]:
        """Return all clients that have ever had a grant, whether they are configured still or not."""
        async with self._engine.connect() as connection:
            return sorted((await connection.execute(_CLIENTS)).scalars())

    async def grants(self, clients: Sequence[str], subject: str) -> list[Mapping[str, Any]]:
        """Return the subject's grants without their tokens."""
        return await self._rows(_GRANTS, {"clients": list(clients), "subject": subject})

    async def export(self, clients: Sequence[str], subject: str) -> dict[str, Any]:
        """Return everything that is stored about a subject, but for tokens."""
        which = {"clients": list(clients), "subject": subject}
        grants = await self.grants(clients, subject)
        ids = {"ids": [grant["id"] for grant in grants]}
        return {
            "subject": subject,
            "grants": grants,
            **{name: await self._rows(statement, ids) for name, statement in _OF_GRANTS.items()},
            "authorization_requests": await self._rows(_REQUESTS, which),
        }

    async def erase_grant(self, grant_id: UUID) -> bool:
        """Erase a grant with all that is about it; False where a request is under way, and then the grant is there.

        Cut off at any moment, it may be repeated: the row goes last, with all that names its owner.
        """
        while await self._count(_ERASE_ROTATIONS, {"id": grant_id, "limit": LIMIT}) == LIMIT:
            pass
        async with self._engine.begin() as connection:
            if not (await connection.execute(_ERASE_GRANT, {"id": grant_id})).rowcount:
                return False
            for statement in _ERASE_OF_GRANT:
                await connection.execute(statement, {"id": grant_id})
        return True

    async def erase_the_rest(self, clients: Sequence[str], subject: str) -> int:
        """Erase what names the subject and belongs to no grant; returns how many rows."""
        which = {"clients": list(clients), "subject": subject}
        removed = await self._count(_ERASE_REQUESTS, which)
        async with self._engine.connect() as connection:
            events = (await connection.execute(_LAST_EVENT)).one()
        for first in range(events.first, events.last + 1, EVENT_WINDOW):
            removed += await self._count(_ERASE_NAMED, {**which, "first": first, "next": first + EVENT_WINDOW})
        return removed

    async def _rows(self, statement: TextClause, which: Mapping[str, object]) -> list[Mapping[str, Any]]:
        async with self._engine.connect() as connection:
            return [dict(row) for row in (await connection.execute(statement, which)).mappings()]

    async def _count(self, statement: TextClause, which: Mapping[str, object]) -> int:
        async with self._engine.begin() as connection:
            return int((await connection.execute(statement, which)).rowcount)
