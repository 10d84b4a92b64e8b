"""Consents under way, and the mails that ask for them."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Index,
    func,
    literal_column,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from worker.domain.reconsent import MailKind, MailState
from worker.storage.tables.base import Base

_MAIL_KINDS = ", ".join(f"'{kind}'" for kind in MailKind)
_MAIL_STATES = ", ".join(f"'{state}'" for state in MailState)


class AuthorizationRequest(Base):
    """A consent under way: made by /connect, used once by the callback (RFC 6749 section 4.1)."""

    __tablename__ = "authorization_requests"

    #: SHA-256 of the state: whoever reads this table cannot finish a consent.
    state_hash: Mapped[bytes] = mapped_column(primary_key=True)
    id: Mapped[UUID]
    client: Mapped[str]
    subject: Mapped[str]
    email: Mapped[str | None]
    browser_hash: Mapped[bytes]
    code_verifier: Mapped[bytes | None]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    #: Where the owner goes on to, one of the client's `return_urls`.
    return_to: Mapped[str | None]
    #: What came of it, for a browser that brings the same answer again; null while that is not known.
    ended: Mapped[str | None]

    __table_args__ = (Index("ix_authorization_requests_expires_at", "expires_at"),)


class ReconsentMail(Base):
    """A mail that asks one grant's owner to authorize again, recorded before it is sent.

    One row for each grant, death and occasion. What goes to one owner at once shares a `message_id`.
    """

    __tablename__ = "reconsent_mails"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    grant_id: Mapped[UUID]
    client: Mapped[str]
    subject: Mapped[str]
    #: Which death it is about: the grant's `state_since`; of a consent that is about to end, its `refresh_expires_at`.
    death: Mapped[datetime]
    kind: Mapped[str]
    #: The how manieth of its kind for this death.
    number: Mapped[int] = mapped_column(server_default="1")
    #: An address, or several with commas between them: the owner's, else the client's fallback recipients.
    recipient: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="waiting")
    due_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    #: Chosen at the first attempt and kept: the Message-ID is the same each time, and so is the link.
    message_id: Mapped[UUID | None]
    link_expires_at: Mapped[datetime | None]
    link_used_at: Mapped[datetime | None]
    #: The attempt under way.
    claim_id: Mapped[UUID | None]
    claimed_until: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(server_default="0")
    #: Attempts after which nobody knows whether the server had taken it: it may have come so often more than once.
    doubts: Mapped[int] = mapped_column(server_default="0")
    #: Why it was not taken at the last attempt: the server's answer, without anything secret.
    last_error: Mapped[str | None]
    last_error_status: Mapped[int | None]
    last_error_at: Mapped[datetime | None]
    sent_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))

    __table_args__ = (
        CheckConstraint(f"kind IN ({_MAIL_KINDS})", name="kind"),
        CheckConstraint(f"state IN ({_MAIL_STATES})", name="state"),
        Index("uq_reconsent_mails_occasion", "grant_id", "death", "kind", "number", unique=True),
        Index("ix_reconsent_mails_due", "client", "due_at", "id", postgresql_where=text("state = 'waiting'")),
        Index("ix_reconsent_mails_claimed", "claimed_until", postgresql_where=text("state = 'sending'")),
        # What else waits for the same owner, and when the owner had the last one.
        Index("ix_reconsent_mails_recipient", "recipient", "sent_at"),
        Index("ix_reconsent_mails_message_id", "message_id", postgresql_where=text("message_id IS NOT NULL")),
        Index("ix_reconsent_mails_created_at", "created_at", "id"),
        # The consents that are about to end, by client and end.
        Index("ix_reconsent_mails_ending", "client", "death", postgresql_where=text("kind = 'expiring'")),
        # What somebody has to look at.
        Index(
            "ix_reconsent_mails_failed",
            "created_at",
            "id",
            postgresql_where=text("state IN ('refused', 'bounced', 'given_up')"),
        ),
        Index("ix_reconsent_mails_open", "created_at", "id", postgresql_where=text("state IN ('waiting', 'sending')")),
        Index("ix_reconsent_mails_client", "client", "created_at", "id"),
        # Whether the last mail to an address was taken.
        Index(
            "ix_reconsent_mails_answered",
            "recipient",
            func.coalesce(literal_column("sent_at"), literal_column("last_error_at")),
            postgresql_where=text("state IN ('sent', 'refused', 'bounced')"),
        ),
    )
