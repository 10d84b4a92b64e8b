"""Claiming a mail: recorded as being sent, with all that goes to the same owner, before the server is spoken to.

Claims take turns, by an advisory lock for some milliseconds each: two workers that each took one of an owner's grants
at the same moment would send two mails where one was meant. The mail itself is sent without any lock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from worker.domain.reconsent import AUTOMATIC, MailKind, MailPolicy
from worker.storage.mail_origin import CLIENTS, RECIPIENT, WANTED

#: Whoever claims holds this advisory lock until the commit. Spells "EVGM".
CLAIMS: Final = 0x4556474D
#: How long a mail may be under way: longer than the longest delivery, so that none is sent by two at once.
LEASE: Final = timedelta(minutes=20)
#: Grants named in one mail: mail readers cut off what is longer than 100 KB. Whoever has more gets the next mail after
#: the cool-down.
MOST_IN_ONE: Final = 100
#: A mail that must wait for another to the same owner is looked at again after this long.
_BEHIND_ANOTHER: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedGrantMail:
    """What one claimed mail says of one grant."""

    grant_id: UUID
    client: str
    subject: str
    account: str | None
    ends_at: datetime | None  #: when its consent ends; None: it has ended


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedMail:
    """Everything that goes to one owner now, under one Message-ID."""

    claim_id: UUID
    message_id: UUID
    recipients: tuple[str, ...]
    link_expires_at: datetime
    attempts: int  #: this one included
    doubts: int  #: attempts before after which nobody knew
    grants: Sequence[ClaimedGrantMail]
    claimed_at: datetime  #: the database's clock


_LOCK: Final = text("SELECT pg_advisory_xact_lock(:claims)")
# What died with its worker may have been taken by the server: nobody knows. The claim's id stays, for the worker may
# only have been cut off, and what it learned still counts.
_GIVE_BACK: Final = text("""
    UPDATE reconsent_mails
       SET state = 'waiting', due_at = now(), claimed_until = NULL, doubts = doubts + 1,
           last_error = 'the worker that was sending it has ended', last_error_status = NULL, last_error_at = now()
     WHERE state = 'sending' AND claimed_until <= now()
    RETURNING client
""")
_NEXT: Final = text(f"""
    SELECT m.id, m.client, m.kind, m.message_id, m.recipient, {RECIPIENT} AS recipient_now,
           nullif(btrim(g.email), '') IS NULL AS falls_back, {WANTED} AS wanted,
           (SELECT max(o.sent_at) FROM reconsent_mails AS o WHERE o.recipient = m.recipient) AS last_sent_at,
           EXISTS (SELECT FROM reconsent_mails AS o
                    WHERE o.recipient = m.recipient AND o.sent_at IS NULL AND o.state = 'sending') AS behind_another,
           (SELECT count(DISTINCT o.message_id) FROM reconsent_mails AS o
             WHERE o.grant_id = m.grant_id AND o.death = m.death AND o.sent_at IS NOT NULL) AS sent,
           now() AS now
      FROM {CLIENTS}
      LEFT JOIN client_status AS status ON status.client = c.client
     CROSS JOIN LATERAL (
           SELECT * FROM reconsent_mails AS w
            WHERE w.client = c.client AND w.state = 'waiting' AND w.due_at <= now()
            ORDER BY w.due_at, w.id LIMIT 1) AS m
      LEFT JOIN grants AS g ON g.id = m.grant_id
     WHERE status.braked_at IS NULL
     ORDER BY m.due_at, m.id LIMIT 1
""")  # noqa: S608 -- every inserted part is a constant
_CANCEL: Final = text("""
    UPDATE reconsent_mails SET state = 'cancelled', last_error = :why
     WHERE id = :id AND state = 'waiting'
""")
_READDRESS: Final = text("""
    UPDATE reconsent_mails SET recipient = :recipient, message_id = NULL WHERE id = :id AND state = 'waiting'
""")
_PUT_OFF: Final = text("UPDATE reconsent_mails SET due_at = :due_at WHERE id = :id AND state = 'waiting'")
# Beside the next one, whatever else is due and goes to the same address. What was tried before goes as it was.
_TOGETHER: Final = text(f"""
    SELECT m.id FROM reconsent_mails AS m
      JOIN grants AS g ON g.id = m.grant_id
      JOIN {CLIENTS} ON c.client = m.client
      LEFT JOIN client_status AS status ON status.client = c.client
     WHERE m.recipient = :recipient AND m.state = 'waiting' AND {WANTED} AND {RECIPIENT} = :recipient
       AND (nullif(btrim(g.email), '') IS NULL) = :falls_back
       AND (m.message_id = :message_id
            OR CAST(:message_id AS uuid) IS NULL AND m.message_id IS NULL AND m.due_at <= now())
       AND status.braked_at IS NULL
     ORDER BY m.id = :id DESC, m.due_at LIMIT {MOST_IN_ONE}
       FOR UPDATE OF m SKIP LOCKED
""")  # noqa: S608 -- every inserted part is a constant
_CLAIM: Final = text("""
    UPDATE reconsent_mails AS m
       SET state = 'sending', claim_id = :claim_id, claimed_until = now() + CAST(:lease AS interval),
           message_id = :message_id, attempts = m.attempts + 1,
           link_expires_at = coalesce(m.link_expires_at, now() + CAST(:link_lifetime AS interval))
      FROM grants AS g
     WHERE m.id = ANY(CAST(:ids AS uuid[])) AND m.state = 'waiting' AND g.id = m.grant_id
    RETURNING m.grant_id, m.client, m.subject, m.death, m.attempts, m.doubts, m.link_expires_at, g.account,
              m.death > m.created_at AS ends, now() AS now
""")


class MailClaims:
    """Claims what is due.

    Args:
        engine: the process's connections.
        clients: those that are configured, with their fallback recipients.
        manual: those of them whose mails are sent when an operator says so.
        policy: cool-down, cap and the links' lifetime.
        new_id: makes ids of claims and messages.

    """

    def __init__(
        self,
        engine: AsyncEngine,
        clients: Mapping[str, tuple[str, ...]],
        manual: frozenset[str],
        policy: MailPolicy,
        new_id: Callable[[], UUID],
    ) -> None:
        self._engine = engine
        self._manual = manual
        self._policy = policy
        self._new_id = new_id
        self._clients = {
            "clients": list(clients),
            "fallbacks": [", ".join(addresses) or None for addresses in clients.values()],
        }

    async def give_back(self) -> list[str]:
        """Let mails go on whose worker has ended while it sent them; returns their clients."""
        async with self._engine.begin() as connection:
            return list((await connection.execute(_GIVE_BACK)).scalars())

    async def claim(self) -> ClaimedMail | None:
        """Take the next mail that is due, with all that goes along; None where nothing is."""
        while True:
            async with self._engine.begin() as connection:
                await connection.execute(_LOCK, {"claims": CLAIMS})
                found = (await connection.execute(_NEXT, self._clients)).one_or_none()
                if found is None:
                    return None
                instead = self._instead(found)
                if instead is None:
                    return await self._take(connection, found)  # None: it was changed this moment, so it comes up again
                statement, parameters = instead
                await connection.execute(statement, {"id": found.id, **parameters})

    def _instead(self, found: Row[Any]) -> tuple[TextClause, dict[str, object]] | None:
        """Return what is done with a mail that is due and must not go now; None: it goes."""
        if found.recipient_now is not None and found.recipient_now != found.recipient and found.wanted:
            return _READDRESS, {"recipient": found.recipient_now}
        unwanted = self._unwanted(found)
        if unwanted is not None:
            return _CANCEL, {"why": unwanted}
        later = self._later(found)
        return (_PUT_OFF, {"due_at": later}) if later is not None else None

    def _unwanted(self, found: Row[Any]) -> str | None:
        if not found.wanted:
            return "the grant needs no mail any more"
        if found.recipient_now is None:
            return "there is nobody to write to any more"
        if found.kind in AUTOMATIC and found.client in self._manual:
            return "its client leaves mails to its operator"
        if found.kind == MailKind.REMINDER and found.sent >= self._policy.cap:
            return f"there have been {found.sent} mails about this already"
        return None

    def _later(self, found: Row[Any]) -> datetime | None:
        now: datetime = found.now
        if found.behind_another:
            return now + _BEHIND_ANOTHER
        if found.kind not in AUTOMATIC or found.message_id is not None or found.last_sent_at is None:
            return None
        cooled: datetime = found.last_sent_at + self._policy.cool_down
        return cooled if cooled > now else None

    async def _take(self, connection: AsyncConnection, found: Row[Any]) -> ClaimedMail | None:
        wanted = {
            **self._clients,
            "id": found.id,
            "recipient": found.recipient,
            "falls_back": found.falls_back,
            "message_id": found.message_id,
        }
        ids = list((await connection.execute(_TOGETHER, wanted)).scalars())
        if not ids:
            return None
        claim_id, message_id = self._new_id(), found.message_id or self._new_id()
        parameters = {
            "ids": ids,
            "claim_id": claim_id,
            "message_id": message_id,
            "lease": LEASE,
            "link_lifetime": self._policy.link_lifetime,
        }
        rows = (await connection.execute(_CLAIM, parameters)).all()
        if not rows:
            return None
        return ClaimedMail(
            claim_id=claim_id,
            message_id=message_id,
            recipients=tuple(found.recipient.split(", ")) if found.falls_back else (found.recipient,),
            link_expires_at=min(row.link_expires_at for row in rows),
            attempts=max(row.attempts for row in rows),
            doubts=max(row.doubts for row in rows),
            grants=_grants(rows),
            claimed_at=rows[0].now,
        )


def _grants(rows: Sequence[Row[Any]]) -> list[ClaimedGrantMail]:
    """Return each grant once, in an order that people find their way in: it may have a mail and a reminder due."""
    named = {
        row.grant_id: ClaimedGrantMail(
            grant_id=row.grant_id,
            client=row.client,
            subject=row.subject,
            account=row.account,
            ends_at=row.death if row.ends else None,
        )
        for row in rows
    }
    return sorted(named.values(), key=lambda grant: (grant.client, grant.subject))
