"""What became of a mail: one guarded UPDATE for each outcome, and zero rows is an answer.

The guard is the claim's id. It outlives the claim until the next one, so that the late word of a worker that was
believed to have ended still counts, and the owner is not mailed twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.domain.mail_fate import Fate
from worker.domain.reconsent import MailState

_OURS: Final = "claim_id = :claim_id AND state IN ('sending', 'waiting')"

# The reminders of a death are noted with its first mail; later mails find them there.
_SENT: Final = text(f"""
    WITH sent AS (
        UPDATE reconsent_mails
           SET state = 'sent', sent_at = now(), claim_id = NULL, claimed_until = NULL,
               last_error = NULL, last_error_status = NULL, last_error_at = NULL
         WHERE {_OURS}
        RETURNING id, grant_id, client, subject, death, kind, recipient, created_at),
    reminded AS (
        INSERT INTO reconsent_mails (id, grant_id, client, subject, death, kind, number, recipient, due_at)
        SELECT DISTINCT ON (grant_id, r.number)
               gen_random_uuid(), grant_id, client, subject, death, 'reminder', r.number, recipient, now() + r.wait
          FROM sent, unnest(CAST(:waits AS interval[])) WITH ORDINALITY AS r (wait, number)
         WHERE death <= created_at AND client = ANY(CAST(:reminding AS text[]))
        ON CONFLICT (grant_id, death, kind, number) DO NOTHING),
    noted AS (
        INSERT INTO events (type, client, grant_id, subject, data)
        SELECT 'grant.reconsent_mailed', client, grant_id, subject, jsonb_build_object('mail', id, 'kind', kind)
          FROM sent)
    SELECT client FROM sent
""")  # noqa: S608 -- every inserted part is a constant
_ENDED: Final = text(f"""
    WITH ended AS (
        UPDATE reconsent_mails
           SET state = :state, claim_id = NULL, claimed_until = NULL, doubts = doubts + :doubts,
               last_error = :error, last_error_status = :status, last_error_at = now()
         WHERE {_OURS}
        RETURNING id, grant_id, client, subject, kind),
    noted AS (
        INSERT INTO events (type, client, grant_id, subject, data)
        SELECT 'grant.reconsent_mail_failed', client, grant_id, subject, jsonb_build_object(
                   'mail', id, 'kind', kind, 'state', CAST(:state AS text), 'status', CAST(:status AS bigint))
          FROM ended)
    SELECT client FROM ended
""")  # noqa: S608 -- every inserted part is a constant
_PUT_OFF: Final = text(f"""
    UPDATE reconsent_mails
       SET state = 'waiting', claimed_until = NULL, due_at = now() + CAST(:wait AS interval),
           attempts = attempts - :not_counted,
           -- What no server has heard of is written anew, with all that goes to its owner by then.
           message_id = CASE WHEN attempts = :not_counted THEN NULL ELSE message_id END, doubts = doubts + :doubts,
           last_error = :error, last_error_status = :status, last_error_at = now()
     WHERE {_OURS}
    RETURNING client
""")  # noqa: S608 -- every inserted part is a constant


class MailSettles:
    """Stores what became of claimed mails, and returns the client of each grant in those that were still ours.

    Args:
        engine: the process's connections.
        reminders: when to remind after the first mail of a death.
        reminding: the clients whose owners are reminded.

    """

    def __init__(self, engine: AsyncEngine, reminders: Sequence[timedelta], reminding: Sequence[str]) -> None:
        self._engine = engine
        self._reminders = {"waits": list(reminders), "reminding": list(reminding)}

    async def settle(self, claim_id: UUID, fate: Fate) -> list[str]:
        """Store where a mail stands after an attempt, and note its reminders if it was taken."""
        told: dict[str, object] = {"claim_id": claim_id, "error": fate.why, "status": fate.status}
        if fate.state is MailState.SENT:
            return await self._change(_SENT, {"claim_id": claim_id, **self._reminders})
        if fate.wait is None:
            return await self._change(_ENDED, {**told, "state": fate.state.value, "doubts": int(fate.in_doubt)})
        counts = {"doubts": int(fate.in_doubt), "not_counted": int(not fate.counted)}
        return await self._change(_PUT_OFF, {**told, "wait": fate.wait, **counts})

    async def _change(self, statement: TextClause, parameters: dict[str, object]) -> list[str]:
        async with self._engine.begin() as connection:
            return list((await connection.execute(statement, parameters)).scalars())
