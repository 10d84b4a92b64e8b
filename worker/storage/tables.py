"""The tables. A column named `…_at` is an instant (UTC, the database's clock); a sealed one is `bytea`."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    DateTime,
    Identity,
    Index,
    LargeBinary,
    MetaData,
    Text,
    func,
    literal_column,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from worker.domain.audit import Act, ActOutcome
from worker.domain.grant import GrantState
from worker.domain.reconsent import MailKind, MailState
from worker.domain.roles import CallerKind, Role
from worker.storage.table_upkeep import APPENDED, CLIENT_STATUS, GRANT_COUNTS, GRANTS

_ACT_OUTCOMES = ", ".join(f"'{outcome}'" for outcome in ActOutcome)
_CALLER_KINDS = ", ".join(f"'{kind}'" for kind in CallerKind)
#: What is left of the audit log without the access tokens that were given out. Its partial indexes are by these words.
NO_TOKEN_GIVEN = f"act <> '{Act.ACCESS_TOKEN_GIVEN}'"
_ROLES = ", ".join(f"'{role}'" for role in Role)
_MAIL_KINDS = ", ".join(f"'{kind}'" for kind in MailKind)
_MAIL_STATES = ", ".join(f"'{state}'" for state in MailState)
_STATES = ", ".join(f"'{state}'" for state in GrantState)


class Base(DeclarativeBase):
    """Names every constraint, so that migrations can speak of them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 -- SQLAlchemy reads it from the class
        datetime: DateTime(timezone=True),
        str: Text(),
        int: BigInteger(),
        bytes: LargeBinary(),
        list[str]: ARRAY(Text()),
        dict[str, Any]: JSONB(),
    }


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
    """That a grant was adopted with a refresh token: it is spent soon after, and never adopted again."""

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


class RefreshHour(Base):
    """How often a client's grants were refreshed within an hour, and with which outcome, as one process counted it.

    A process writes its own count over and over: repeating that changes nothing. Later an hour's counts are folded.
    """

    __tablename__ = "refresh_hours"

    hour: Mapped[datetime] = mapped_column(primary_key=True)
    client: Mapped[str] = mapped_column(primary_key=True)
    outcome: Mapped[str] = mapped_column(primary_key=True)
    #: The process; of counts that were folded, all zeros.
    reporter: Mapped[UUID] = mapped_column(primary_key=True)
    refreshes: Mapped[int]


class Forecast(Base):
    """How much is to come within an hour or a day, as a tick has reckoned it lately."""

    __tablename__ = "forecasts"

    kind: Mapped[str] = mapped_column(
        primary_key=True
    )  #: `refreshes` of an hour, or consents that end on a day: `ends`
    at: Mapped[datetime] = mapped_column(primary_key=True)
    client: Mapped[str] = mapped_column(primary_key=True)
    grants: Mapped[int]
    made_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class ClientStatusRow(Base):
    """What holds a client back: breaker, throttle, operator, rate. Locked for each claim."""

    __tablename__ = "client_status"

    client: Mapped[str] = mapped_column(primary_key=True)
    paused_by_operator: Mapped[bool] = mapped_column(server_default=text("false"))
    throttled_until: Mapped[datetime | None]
    breaker_opened_at: Mapped[datetime | None]
    breaker_reason: Mapped[str | None]
    breaker_code: Mapped[str | None]
    failed_canaries: Mapped[int] = mapped_column(server_default="0")
    canary_at: Mapped[datetime | None]
    #: Since when the client is refreshed again after a breaker or a brake: from here it catches up on a ramp.
    resumed_at: Mapped[datetime | None]
    braked_at: Mapped[datetime | None]
    #: Suspects that were refreshed since the brake went on: enough of them release it.
    suspects_refreshed: Mapped[int] = mapped_column(server_default="0")
    bucket: Mapped[float | None]
    bucket_at: Mapped[datetime | None]

    __table_args__ = ({"postgresql_with": CLIENT_STATUS},)


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


class Event(Base):
    """What happened, newest last; no secret stands in it."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    type: Mapped[str]
    client: Mapped[str]
    grant_id: Mapped[UUID | None]
    subject: Mapped[str | None]
    data: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))

    __table_args__ = (
        Index("ix_events_grant_id", "grant_id", "id"),
        Index("ix_events_client_id", "client", "id"),
        # What the page shows last: an import adds a million of the others at once.
        Index("ix_events_shown", "id", postgresql_where=text("type <> 'grant.created'")),
        # What the brake counts: deaths are rare, so the index is small.
        Index("ix_events_deaths", "client", "at", postgresql_where=text("type = 'grant.reconsent_required'")),
        {"postgresql_with": APPENDED},
    )


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


class WebhookEndpointRow(Base):
    """How far a webhook endpoint has got, and how it is; which endpoints there are the configuration says."""

    __tablename__ = "webhook_endpoints"

    name: Mapped[str] = mapped_column(primary_key=True)
    #: Keyed fingerprint of the address: an endpoint that was gone is asked again where it has moved to.
    url_fingerprint: Mapped[str]
    #: The last event that was looked at; those after it wait in `events` alone.
    read_until: Mapped[int]
    paused_at: Mapped[datetime | None]
    paused_reason: Mapped[str | None]
    #: Failures in a row; parallel ones count as one.
    failures: Mapped[int] = mapped_column(server_default="0")
    #: Set by a failure that is not an event's own; past it one delivery at a time is tried, till one arrives.
    held_until: Mapped[datetime | None]
    delivered: Mapped[int] = mapped_column(server_default="0")
    delivered_at: Mapped[datetime | None]
    last_error: Mapped[str | None]
    last_error_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class WebhookDelivery(Base):
    """An event that waits for one endpoint, or is dead for it. What was delivered has no row any more."""

    __tablename__ = "webhook_deliveries"

    endpoint: Mapped[str] = mapped_column(primary_key=True)
    event_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    #: The endpoint and the grant's id, or the client's name where the event is about no grant: of one lane, one after
    #: the other. With the endpoint in it, it is found along its own index whatever the statistics say.
    lane: Mapped[str]
    failures: Mapped[int] = mapped_column(server_default="0")
    next_attempt_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    claim_id: Mapped[UUID | None]
    claimed_until: Mapped[datetime | None]
    #: It failed for its endpoint's sake, and is tried as soon as the endpoint is back.
    awaits_endpoint: Mapped[bool] = mapped_column(server_default=text("false"))
    dead_at: Mapped[datetime | None]
    last_error: Mapped[str | None]
    last_error_at: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_webhook_deliveries_due", "endpoint", "next_attempt_at", postgresql_where=text("dead_at IS NULL")),
        Index("ix_webhook_deliveries_lane", "lane", "event_id", postgresql_where=text("dead_at IS NULL")),
        Index(
            "ix_webhook_deliveries_claimed",
            "endpoint",
            "claimed_until",
            postgresql_where=text("claimed_until IS NOT NULL"),
        ),
        Index("ix_webhook_deliveries_dead", "endpoint", "event_id", postgresql_where=text("dead_at IS NOT NULL")),
    )


class SealingKey(Base):
    """A key that seals, or has sealed, something in this database: a ring that lacks it is refused at the start."""

    __tablename__ = "sealing_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    #: Tells the key from another one under the same id; null until a process that has the key has looked.
    identity: Mapped[str | None]
    first_used_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
