"""Grants and what hangs on them: adopted tokens, counts, the lineage of their rotations."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Identity,
    Index,
    func,
    literal_column,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from worker.domain.grant import GrantState
from worker.storage.table_upkeep import APPENDED, GRANT_COUNTS, GRANTS
from worker.storage.tables.base import Base

_STATES = ", ".join(f"'{state}'" for state in GrantState)


class Grant(Base):
    """One resource owner's authorization of one client: the row that is kept alive."""

    __tablename__ = "grants"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    client: Mapped[str]
    subject: Mapped[str]
    state: Mapped[str]
    state_since: Mapped[datetime] = mapped_column(server_default=text("now()"))
    state_reason: Mapped[str | None]
    generation: Mapped[int] = mapped_column(server_default="0")

    access_token: Mapped[bytes | None]
    refresh_token: Mapped[bytes]
    issued_at: Mapped[datetime | None]
    access_expires_at: Mapped[datetime | None]
    refresh_expires_at: Mapped[datetime | None]
    scopes: Mapped[list[str] | None]
    #: Scopes that the grant once had and that an answer no longer named; null where none is missing.
    lost_scopes: Mapped[list[str] | None]
    #: What the provider's facts say to keep of redirects and answers: an account's own host, a company's number.
    captured: Mapped[dict[str, Any] | None]
    #: The owner's id at the provider, and where it was read: ids that were read elsewhere do not compare.
    account: Mapped[str | None]
    account_source: Mapped[str | None]
    email: Mapped[str | None]

    #: When the grant is due; null where it is not rotated at all.
    rotate_at: Mapped[datetime | None]
    #: The lease that was granted last. It outlives `leased_until` when a lease is rescued, so that the late answer of
    #: a worker that was believed dead still finds its row.
    lease_id: Mapped[UUID | None]
    leased_until: Mapped[datetime | None]
    #: The worker that holds the lease, where its session lock vouches for it (`worker.storage.presence`).
    leased_by: Mapped[int | None]
    #: Committed before the refresh token may leave; cleared by the settle.
    spend_started_at: Mapped[datetime | None]

    strikes: Mapped[int] = mapped_column(server_default="0")
    failures: Mapped[int] = mapped_column(server_default="0")
    last_error: Mapped[str | None]
    last_error_code: Mapped[str | None]
    last_error_status: Mapped[int | None]
    last_error_at: Mapped[datetime | None]
    #: How often this generation's refresh token has been presented without a readable answer, and since when.
    presentations: Mapped[int] = mapped_column(server_default="0")
    doubt_since: Mapped[datetime | None]

    consented_at: Mapped[datetime | None]
    rotated_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))

    __table_args__ = (
        CheckConstraint(f"state IN ({_STATES})", name="state"),
        CheckConstraint(
            "state NOT IN ('active', 'in_doubt', 'suspect') OR rotate_at IS NOT NULL", name="rotated_has_due_time"
        ),
        Index("uq_grants_client_subject", "client", "subject", unique=True),
        # The claim's and the scan's index: only what may be claimed stands in it.
        Index(
            "ix_grants_due",
            "client",
            "rotate_at",
            postgresql_where=text("leased_until IS NULL AND rotate_at IS NOT NULL"),
        ),
        # The rescue's index, and the count of what is in flight: only what is leased stands in it.
        Index("ix_grants_leased", "client", "leased_until", postgresql_where=text("leased_until IS NOT NULL")),
        Index("ix_grants_account", "client", "account", postgresql_where=text("account IS NOT NULL")),
        Index("ix_grants_state", "state", "client", postgresql_where=text("state <> 'active'")),
        # What re-consent mails are made of: those that died lately.
        Index("ix_grants_dead", "state_since", postgresql_where=text("state = 'reconsent_required'")),
        # What was put off after a failure: of the grants that are not due, those whose access token may have run out.
        Index(
            "ix_grants_put_off",
            "client",
            "access_expires_at",
            postgresql_where=text("state = 'active' AND (failures > 0 OR strikes > 0)"),
        ),
        # What people search by. Claim and settle change what stands in the indexes above, so each writes an entry into
        # every index that the row stands in: there are as few of these as searching needs, and most hold no active row.
        Index(
            "ix_grants_subject_begins",
            func.lower(literal_column("subject")).label("begins"),
            postgresql_ops={"begins": "text_pattern_ops"},
        ),
        Index(
            "ix_grants_email_begins",
            func.lower(literal_column("email")).label("begins"),
            postgresql_ops={"begins": "text_pattern_ops"},
            postgresql_where=text("email IS NOT NULL"),
        ),
        Index("ix_grants_since", "state_since", "id", postgresql_where=text("state <> 'active'")),
        Index("ix_grants_reason", "state_reason", "state_since", postgresql_where=text("state_reason IS NOT NULL")),
        {"postgresql_with": GRANTS},
    )


class AdoptedToken(Base):
    """That a grant was adopted with a refresh token: it is spent soon after, and not adopted again while there is one.

    It goes with its grant, and what is left of grants that are gone is pruned.
    """

    __tablename__ = "adopted_tokens"

    #: Keyed fingerprint of the refresh token, as in `rotations`.
    fingerprint: Mapped[str] = mapped_column(primary_key=True)
    grant_id: Mapped[UUID] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class GrantCount(Base):
    """By how much one statement has changed a client's number of grants in one state; triggers on `grants` add it.

    The sum is the number, exactly and in every snapshot. Nobody waits for anybody, for rows are only ever added;
    `worker.storage.grant_counts` folds them now and then.
    """

    __tablename__ = "grant_counts"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    client: Mapped[str]
    state: Mapped[str]
    grants: Mapped[int]

    __table_args__ = ({"postgresql_with": GRANT_COUNTS},)


class RotationRow(Base):
    """One stored rotation: the grant's lineage, newest last."""

    __tablename__ = "rotations"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    grant_id: Mapped[UUID]
    client: Mapped[str]
    subject: Mapped[str]
    generation: Mapped[int]
    #: Keyed fingerprint of the refresh token that was spent for this generation.
    spent_fingerprint: Mapped[str | None]

    __table_args__ = (
        Index("ix_rotations_grant_id", "grant_id", "id"),
        {"postgresql_with": APPENDED},
    )
