"""What the audit log knows: who did what to which grant, from where, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from worker.domain.roles import Caller, CallerKind, Role


class Act(StrEnum):
    """What somebody may have done, as it stands in the log."""

    SIGN_IN = "sign_in"
    SIGN_OUT = "sign_out"
    SIGN_OUT_EVERYWHERE = "sign_out.everywhere"
    SIGN_IN_LINK_MADE = "sign_in_link.make"
    SESSION_ENDED = "session.end"
    API_TOKEN_MADE = "api_token.make"  # noqa: S105 -- the name of an act
    API_TOKEN_REVOKED = "api_token.revoke"  # noqa: S105 -- the name of an act
    ACCESS_TOKEN_GIVEN = "access_token.give"  # noqa: S105 -- the name of an act
    GRANT_ADOPTED = "grant.adopt"
    GRANTS_IMPORTED = "grants.import"
    GRANTS_EXPORTED = "grants.export"
    GRANT_CHANGED = "grant.change"
    GRANT_REFRESHED = "grant.refresh"
    GRANT_PAUSED = "grant.pause"
    GRANT_RESUMED = "grant.resume"
    GRANT_REVOKED = "grant.revoke"
    ACCOUNT_FORGOTTEN = "grant.forget_account"
    RECONSENT_SENT = "reconsent.send"
    MAIL_RESENT = "mail.resend"
    MAIL_BOUNCED = "mail.bounce"
    CLIENT_PAUSED = "client.pause"
    CLIENT_RESUMED = "client.resume"
    CLIENT_TESTED = "client.test"
    WEBHOOK_PAUSED = "webhook.pause"
    WEBHOOK_RESUMED = "webhook.resume"
    WEBHOOK_TESTED = "webhook.test"
    WEBHOOK_REPLAYED = "webhook.replay"
    KEYS_ROTATED = "keys.rotate"
    SUBJECT_EXPORTED = "subject.export"
    SUBJECT_ERASED = "subject.erase"


class ActOutcome(StrEnum):
    """What came of an act."""

    DONE = "done"
    REFUSED = "refused"  #: whoever asked may not
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who did something, and from where."""

    kind: CallerKind
    id: UUID | None  #: of the API token or the session
    name: str | None
    role: Role | None
    address: str | None  #: of the machine that it came from

    @classmethod
    def of(cls, caller: Caller, address: str | None) -> Actor:
        """Return a caller as an actor."""
        return cls(kind=caller.kind, id=caller.id, name=caller.name, role=caller.role, address=address)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One entry to be written. Nothing secret stands in it.

    `client` and `subject` are filled in from the grant where only that is known. `details` are a few plain values.
    """

    actor: Actor
    act: Act
    outcome: ActOutcome = ActOutcome.DONE
    client: str | None = None
    grant_id: UUID | None = None
    count: int = 1  #: how many times, where several are one entry
    details: Mapping[str, object] = field(default_factory=dict)
