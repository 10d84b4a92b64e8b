"""Who may do what, and who did: API tokens, sessions, links that sign in, the audit log, answers given once."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Identity,
    Index,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from worker.domain.audit import Act, ActOutcome
from worker.domain.roles import CallerKind, Role
from worker.storage.table_upkeep import APPENDED
from worker.storage.tables.base import Base

_ACT_OUTCOMES = ", ".join(f"'{outcome}'" for outcome in ActOutcome)
_CALLER_KINDS = ", ".join(f"'{kind}'" for kind in CallerKind)
#: What is left of the audit log without the access tokens that were given out. Its partial indexes are by these words.
NO_TOKEN_GIVEN = f"act <> '{Act.ACCESS_TOKEN_GIVEN}'"
_ROLES = ", ".join(f"'{role}'" for role in Role)


class ApiToken(Base):
    """What lets a program use the API: its role, the client that it is bound to, and how long it is good."""

    __tablename__ = "api_tokens"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    #: SHA-256 of the token: whoever reads this table cannot use the API.
    token_hash: Mapped[bytes]
    role: Mapped[str]
    client: Mapped[str | None]  #: null: all clients
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint(f"role IN ({_ROLES})", name="role"),
        Index("uq_api_tokens_token_hash", "token_hash", unique=True),
    )


class SessionRow(Base):
    """A person who has signed in, in one browser."""

    __tablename__ = "sessions"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    #: SHA-256 of what the cookie holds: whoever reads this table has no session.
    secret_hash: Mapped[bytes]
    #: Who it is: the OpenID provider and its `sub`, or "link" and the link's id.
    issuer: Mapped[str]
    subject: Mapped[str]
    name: Mapped[str]
    role: Mapped[str]
    client: Mapped[str | None]  #: null: all clients
    #: Where it began: the machine's address, and what the browser calls itself.
    address: Mapped[str | None]
    agent: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    last_used_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint(f"role IN ({_ROLES})", name="role"),
        Index("uq_sessions_secret_hash", "secret_hash", unique=True),
        Index("ix_sessions_person", "issuer", "subject"),
        Index("ix_sessions_expires_at", "expires_at"),
    )


class SignInLinkRow(Base):
    """A link that signs somebody in, once."""

    __tablename__ = "sign_in_links"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    #: SHA-256 of the link's last part: whoever reads this table cannot sign in.
    secret_hash: Mapped[bytes]
    name: Mapped[str]
    role: Mapped[str]
    client: Mapped[str | None]  #: null: all clients
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint(f"role IN ({_ROLES})", name="role"),
        Index("uq_sign_in_links_secret_hash", "secret_hash", unique=True),
    )


class AuditRow(Base):
    """Who did what, from where, and what came of it. A trigger refuses whatever would change an entry."""

    __tablename__ = "audit_log"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    #: How whoever did it had shown who they are, and who that is: an API token, a session, a user of this machine.
    kind: Mapped[str]
    actor_id: Mapped[UUID | None]
    actor: Mapped[str | None]
    role: Mapped[str | None]
    address: Mapped[str | None]
    act: Mapped[str]
    outcome: Mapped[str]
    client: Mapped[str | None]
    grant_id: Mapped[UUID | None]
    subject: Mapped[str | None]
    #: How many times: access tokens that were given out in one second are one entry.
    count: Mapped[int] = mapped_column(server_default="1")
    details: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))

    __table_args__ = (
        CheckConstraint(f"kind IN ({_CALLER_KINDS})", name="kind"),
        CheckConstraint(f"outcome IN ({_ACT_OUTCOMES})", name="outcome"),
        Index("ix_audit_log_grant_id", "grant_id", "id", postgresql_where=text("grant_id IS NOT NULL")),
        Index("ix_audit_log_client", "client", "id"),
        # Access tokens that were given out are nearly all entries; what else was done is found without walking them.
        Index("ix_audit_log_acts", "id", postgresql_where=text(NO_TOKEN_GIVEN)),
        Index("ix_audit_log_acts_by_act", "act", "id", postgresql_where=text(NO_TOKEN_GIVEN)),
        Index("ix_audit_log_acts_by_actor", "actor", "id", postgresql_where=text(NO_TOKEN_GIVEN)),
        Index("ix_audit_log_acts_on_client", "client", "id", postgresql_where=text(NO_TOKEN_GIVEN)),
        Index(
            "ix_audit_log_acts_on_grant",
            "grant_id",
            "id",
            postgresql_where=text(f"grant_id IS NOT NULL AND {NO_TOKEN_GIVEN}"),
        ),
        {"postgresql_with": APPENDED},
    )


class IdempotentRequest(Base):
    """A POST that came with an Idempotency-Key: what was asked, and the answer for whoever asks the same again."""

    __tablename__ = "idempotent_requests"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    caller_id: Mapped[UUID]
    #: SHA-256 of the key, and of method, path and body under the key: neither can be read back.
    key_hash: Mapped[bytes]
    request_hash: Mapped[bytes]
    began_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    #: Null while the first request is under way.
    status: Mapped[int | None]
    #: The answer's media type, location and body, sealed.
    answer: Mapped[bytes | None]

    __table_args__ = (
        Index("uq_idempotent_requests_caller_id_key_hash", "caller_id", "key_hash", unique=True),
        Index("ix_idempotent_requests_began_at", "began_at"),
    )
