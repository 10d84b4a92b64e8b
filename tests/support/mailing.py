"""Grants that need their owner, and the mails about them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import Row

from tests.support.database import execute, rows
from worker.bootstrap import Container

#: Two clients, one of which has a name of its own; nothing of them is called. Mails go at once, and are not held back.
CONFIGURATION: Final = """
[providers.acme]
display_name = "Acme"
authorization_endpoint = "http://127.0.0.1:9/authorize"
token_endpoint = "http://127.0.0.1:9/token"
client_auth = "none"

[clients.acme-main]
provider = "acme"
client_id = "acme-main"

[clients.acme-crm]
provider = "acme"
client_id = "acme-crm"
display_name = "Acme CRM"
"""
AT_ONCE: Final = '[mails]\ndelay = "0s"\ncool_down = "0s"\n'
#: Seconds for a round of mails: it ends as soon as nothing is due.
ROUND: Final = 20.0


async def dead(
    container: Container,
    subject: str,
    *,
    email: str | None = "",
    client: str = "acme-main",
    since: timedelta = timedelta(0),
) -> UUID:
    """Add a grant that has died; its owner's address is made of the subject unless it is given or None."""
    grant_id = uuid4()
    await execute(
        container,
        """
        INSERT INTO grants (id, client, subject, state, state_reason, state_since, refresh_token, email, created_at)
        VALUES (:id, :client, :subject, 'reconsent_required', 'invalid_grant', now() - CAST(:since AS interval), '',
                :email, now() - interval '1 year')
        """,
        id=grant_id,
        client=client,
        subject=subject,
        since=since,
        email=f"{subject}@example.com" if email == "" else email,
    )
    return grant_id


async def alive(container: Container, grant_id: UUID) -> None:
    """Bring a grant back as its owner's consent does."""
    await execute(
        container,
        """
        UPDATE grants SET state = 'active', state_since = now(), state_reason = NULL, rotate_at = now() + interval '1h',
               consented_at = now() WHERE id = :id
        """,
        id=grant_id,
    )


async def mails(container: Container) -> list[Row[Any]]:
    """Return all mails as they are stored."""
    return list(await rows(container, "SELECT * FROM reconsent_mails ORDER BY client, subject, kind, number"))


async def later(container: Container, time: timedelta) -> None:
    """Let time pass for the mails: everything about them moves into the past."""
    await execute(
        container,
        """
        UPDATE reconsent_mails
           SET due_at = due_at - CAST(:time AS interval), sent_at = sent_at - CAST(:time AS interval),
               claimed_until = claimed_until - CAST(:time AS interval)
        """,
        time=time,
    )


def bounce_of(message_id: str) -> str:
    """Return the report that a mail was taken and could not be delivered (RFC 3464)."""
    return f"""\
Content-Type: multipart/report; report-type=delivery-status; boundary="b"
MIME-Version: 1.0

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mail.example

Final-Recipient: rfc822; ada@example.com
Action: failed
Status: 5.2.1
Diagnostic-Code: smtp; 550 5.2.1 mailbox closed

--b
Content-Type: text/rfc822-headers

Message-ID: {message_id}

--b--
"""
