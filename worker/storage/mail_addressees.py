"""Whom to mail because somebody asks for it: grants that need their owner, with what speaks against a mail, and asking.

An asked-for mail takes the place of one that waits untried, such as tomorrow's digest: the owner gets one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.domain.delivery import is_address_wrong
from worker.domain.grant import GrantState
from worker.domain.reconsent import ASKED_AGAIN_AFTER, Addressee, MailKind
from worker.storage.mail_origin import CLIENTS, RECIPIENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A grant whose owner may be mailed."""

    grant_id: UUID
    client: str
    subject: str
    death: datetime
    braked: bool  #: a mail would wait until the client's brake is off
    asked_at: datetime | None  #: when an operator last asked for a mail about this death
    addressee: Addressee
    now: datetime  #: the database's clock at the reading


# `death` is which death a mail would be about; of a grant that is alive, when its consent ends, where that was noted.
_CANDIDATES: Final = f"""
    SELECT g.id AS grant_id, g.client, g.subject, g.state, a.death, c.client IS NOT NULL AS configured,
           {RECIPIENT} AS recipient, status.braked_at IS NOT NULL AS braked,
           ending.death IS NOT NULL AND g.state IN ('active', 'in_doubt', 'suspect') AS ends_soon,
           EXISTS (SELECT FROM reconsent_mails AS m
                    WHERE m.grant_id = g.id AND m.death = a.death AND (m.state = 'sending' OR m.state = 'waiting'
                           AND (m.attempts > 0 OR m.kind IN ('operator', 'owner')))) AS under_way,
           (SELECT max(m.sent_at) FROM reconsent_mails AS m WHERE m.recipient = {RECIPIENT}) AS last_sent_at,
           EXISTS (SELECT FROM reconsent_mails AS m
                    WHERE m.grant_id = g.id AND m.death = a.death AND m.link_used_at IS NULL
                      AND m.sent_at > now() - CAST(:lately AS interval)) AS has_fresh_link,
           (SELECT count(DISTINCT m.message_id) FROM reconsent_mails AS m
             WHERE m.grant_id = g.id AND m.death = a.death AND m.sent_at IS NOT NULL) AS sent,
           (SELECT max(m.created_at) FROM reconsent_mails AS m
             WHERE m.grant_id = g.id AND m.death = a.death AND m.kind = 'operator') AS asked_at,
           refused.last_error AS refusal, refused.last_error_status AS refusal_status, refused.state AS refusal_state,
           now() AS now
      FROM grants AS g
      LEFT JOIN {CLIENTS} ON c.client = g.client
      LEFT JOIN client_status AS status ON status.client = g.client
      LEFT JOIN LATERAL (
           SELECT m.death FROM reconsent_mails AS m
            WHERE m.grant_id = g.id AND m.kind = 'expiring' AND m.created_at > coalesce(g.consented_at, g.created_at)
            ORDER BY m.created_at DESC LIMIT 1) AS ending ON true
     CROSS JOIN LATERAL (
           SELECT CASE WHEN g.state = 'reconsent_required' OR ending.death IS NULL THEN g.state_since
                       ELSE ending.death END AS death) AS a
      LEFT JOIN LATERAL (
           SELECT m.last_error, m.last_error_status, m.state FROM reconsent_mails AS m
            WHERE m.recipient = {RECIPIENT} AND m.state IN ('sent', 'refused', 'bounced')
            ORDER BY coalesce(m.sent_at, m.last_error_at) DESC LIMIT 1) AS refused ON refused.state <> 'sent'
"""  # noqa: S608 -- every inserted part is a constant
_BY_ID: Final = text(f"{_CANDIDATES} WHERE g.id = ANY(CAST(:ids AS uuid[])) ORDER BY g.client, g.subject")
_IN_NEED: Final = text(f"""
    {_CANDIDATES}
     WHERE (g.state = 'reconsent_required' OR g.id = ANY(ARRAY(
                SELECT m.grant_id FROM reconsent_mails AS m WHERE m.kind = 'expiring' AND m.death > now())))
       AND (CAST(:client AS text) IS NULL OR g.client = CAST(:client AS text))
       AND (CAST(:after_client AS text) IS NULL
            OR (g.client, g.subject) > (CAST(:after_client AS text), CAST(:after_subject AS text)))
     ORDER BY g.client, g.subject LIMIT :limit
""")  # noqa: S608 -- the inserted part is a constant
_ENDING: Final = text("""
    SELECT count(*) FROM grants AS g
     WHERE g.state <> 'reconsent_required'
       AND g.id = ANY(ARRAY(SELECT m.grant_id FROM reconsent_mails AS m WHERE m.kind = 'expiring' AND m.death > now()))
       AND (CAST(:client AS text) IS NULL OR g.client = CAST(:client AS text))
""")
_REPLACE: Final = text("""
    UPDATE reconsent_mails AS m SET state = 'cancelled', last_error = 'another mail was asked for'
      FROM unnest(CAST(:grants AS uuid[]), CAST(:deaths AS timestamptz[])) AS w (grant_id, death)
     WHERE m.grant_id = w.grant_id AND m.death = w.death AND m.state = 'waiting' AND m.attempts = 0
       AND m.kind IN ('death', 'expiring')
""")
# Two who ask at once number their mails alike, and one of them stays.
_ASK: Final = text("""
    INSERT INTO reconsent_mails (id, grant_id, client, subject, death, kind, number, recipient)
    SELECT gen_random_uuid(), w.grant_id, w.client, w.subject, w.death, :kind,
           1 + (SELECT count(*) FROM reconsent_mails AS m
                 WHERE m.grant_id = w.grant_id AND m.death = w.death AND m.kind = :kind), w.recipient
      FROM unnest(CAST(:grants AS uuid[]), CAST(:clients AS text[]), CAST(:subjects AS text[]),
                  CAST(:deaths AS timestamptz[]), CAST(:recipients AS text[]))
           AS w (grant_id, client, subject, death, recipient)
    ON CONFLICT (grant_id, death, kind, number) DO NOTHING
    RETURNING grant_id, id
""")


class MailAddressees:
    """Reads whom to mail, and asks for mails.

    Args:
        engine: the process's connections.
        clients: those that are configured, with their fallback recipients.

    """

    def __init__(self, engine: AsyncEngine, clients: Mapping[str, tuple[str, ...]]) -> None:
        self._engine = engine
        self._clients = {
            "clients": list(clients),
            "fallbacks": [", ".join(addresses) or None for addresses in clients.values()],
            "lately": ASKED_AGAIN_AFTER,
        }

    async def by_id(self, grant_ids: Sequence[UUID]) -> list[Candidate]:
        """Return these grants, those that there are."""
        async with self._engine.connect() as connection:
            rows = await connection.execute(_BY_ID, {**self._clients, "ids": list(grant_ids)})
            return [_candidate(row) for row in rows]

    async def in_need(self, *, client: str | None, after: tuple[str, str] | None, limit: int) -> list[Candidate]:
        """Return grants that need their owner or will soon, in the order of client and subject.

        Args:
            client: only this client's.
            after: client and subject of the last one of the page before.
            limit: at most so many.

        """
        after_client, after_subject = after or (None, None)
        looked_for = {"client": client, "after_client": after_client, "after_subject": after_subject, "limit": limit}
        async with self._engine.connect() as connection:
            return [_candidate(row) for row in await connection.execute(_IN_NEED, {**self._clients, **looked_for})]

    async def count_ending(self, client: str | None) -> int:
        """Count the grants that do not need their owner yet, and whose consent ends soon; of one client, or of all."""
        async with self._engine.connect() as connection:
            return int((await connection.execute(_ENDING, {"client": client})).scalar_one())

    async def ask(self, candidates: Sequence[Candidate], kind: MailKind) -> dict[UUID, UUID]:
        """Ask for a mail about each of these grants, due at once; returns the mails' ids by grant.

        A grant that is missing there was asked about by somebody else at the same moment.
        """
        chosen = [found for found in candidates if found.addressee.recipient is not None]
        parameters = {
            "grants": [found.grant_id for found in chosen],
            "clients": [found.client for found in chosen],
            "subjects": [found.subject for found in chosen],
            "deaths": [found.death for found in chosen],
            "recipients": [found.addressee.recipient for found in chosen],
        }
        async with self._engine.begin() as connection:
            await connection.execute(_REPLACE, {name: parameters[name] for name in ("grants", "deaths")})
            rows = await connection.execute(_ASK, {**parameters, "kind": kind.value})
            return {row.grant_id: row.id for row in rows}


def _candidate(row: Row[Any]) -> Candidate:
    bounced = row.refusal_state == "bounced"
    refused = row.refusal is not None and is_address_wrong(row.refusal_status, row.refusal)
    return Candidate(
        grant_id=row.grant_id,
        client=row.client,
        subject=row.subject,
        death=row.death,
        braked=row.braked,
        asked_at=row.asked_at,
        addressee=Addressee(
            state=GrantState(row.state),
            ends_soon=row.ends_soon,
            configured=row.configured,
            recipient=row.recipient,
            under_way=row.under_way,
            last_sent_at=row.last_sent_at,
            has_fresh_link=row.has_fresh_link,
            sent=row.sent,
            address_refused=bounced or refused,
        ),
        now=row.now,
    )
