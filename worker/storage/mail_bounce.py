"""Noting a bounce: the mail was taken and did not arrive, so nothing further goes to that address about this death."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

_BOUNCED: Final = text("""
    WITH bounced AS (
        UPDATE reconsent_mails
           SET state = 'bounced', last_error = :reply, last_error_status = :status, last_error_at = now()
         WHERE message_id = :message_id AND state = 'sent'
        RETURNING id, grant_id, client, subject, death, kind),
    reminders AS (
        UPDATE reconsent_mails AS m SET state = 'cancelled', last_error = 'the mail before it bounced'
          FROM bounced AS b
         WHERE m.grant_id = b.grant_id AND m.death = b.death AND m.kind = 'reminder' AND m.state = 'waiting'),
    noted AS (
        INSERT INTO events (type, client, grant_id, subject, data)
        SELECT 'grant.reconsent_mail_failed', client, grant_id, subject, jsonb_build_object(
                   'mail', id, 'kind', kind, 'state', 'bounced', 'status', CAST(:status AS bigint))
          FROM bounced)
    SELECT client FROM bounced
""")


async def note_bounce(engine: AsyncEngine, message_id: UUID, *, status: int | None, reply: str) -> list[str]:
    """Note that a mail has bounced; returns the client of each grant in it, none where it was noted or is not known."""
    async with engine.begin() as connection:
        noted = await connection.execute(_BOUNCED, {"message_id": message_id, "status": status, "reply": reply})
        return list(noted.scalars())
