"""What a token endpoint's answer means: values, matched exhaustively.

Outcome
├── Rotated        tokens arrived; nothing else in the answer may lose them
├── Dead           the authorization server says that this grant has ended
├── Misconfigured  our registration, secret, address or request is wrong; no grant is to blame
├── Throttled      too many requests; the client pauses
├── Unavailable    nothing was spent: not sent, or refused without touching the token
└── InDoubt        it may have been spent, and no answer was read
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from worker.domain.secret import Secret


class Reason(StrEnum):
    """Why, from a closed list: these are metric labels and columns."""

    OK = "ok"
    # the grant
    INVALID_GRANT = "invalid_grant"
    # our side, or the provider's address
    INVALID_CLIENT = "invalid_client"
    UNAUTHORIZED_CLIENT = "unauthorized_client"
    INVALID_REQUEST = "invalid_request"
    INVALID_SCOPE = "invalid_scope"
    UNSUPPORTED_GRANT_TYPE = "unsupported_grant_type"
    ENDPOINT_NOT_FOUND = "endpoint_not_found"
    REDIRECTED = "redirected"
    TLS = "tls"
    PRIVATE_ADDRESS = "private_address"
    UNREADABLE_TOKEN = "unreadable_token"  # noqa: S105 -- a reason, not a password: the key ring does not open the row
    # too many
    RATE_LIMITED = "rate_limited"
    # nothing was spent
    CONNECT = "connect"
    LEASE_TOO_SHORT = "lease_too_short"
    REQUEST_INCOMPLETE = "request_incomplete"
    TEMPORARILY_UNAVAILABLE = "temporarily_unavailable"
    UNRECOGNIZED_ERROR = "unrecognized_error"
    # may have been spent
    NO_ANSWER = "no_answer"
    TIMEOUT = "timeout"
    SERVER_ERROR = "server_error"
    UNREADABLE_ANSWER = "unreadable_answer"
    WORKER_DIED = "worker_died"
    # why a grant needs its owner again
    ROTATION_REPLY_LOST = "rotation_reply_lost"
    REFRESH_TOKEN_EXPIRED = "refresh_token_expired"  # noqa: S105 -- a reason, not a password


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why an attempt did not bring tokens.

    `code` is the provider's own error code, cut and cleaned: never a description, never a body.
    """

    reason: Reason
    status: int | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What a successful token answer brought (RFC 6749 section 5.1)."""

    access_token: Secret
    refresh_token: Secret | None  #: absent: keep the one that was presented
    access_lifetime: timedelta | None  #: absent: unknown, the provider's default applies
    refresh_lifetime: timedelta | None = None
    scopes: tuple[str, ...] | None = None  #: absent: unchanged
    account: str | None = None
    account_source: str | None = field(default=None, compare=False)  #: where it was read: `ToldAccount.source`
    id_token: Secret | None = field(default=None, compare=False)  #: who signed in; it is read once, and not kept
    captured: Mapping[str, str] = field(default_factory=dict, hash=False)  #: what the provider's facts say to keep


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated:
    """Tokens arrived."""

    tokens: Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Dead:
    """The authorization server refuses this refresh token for good."""

    cause: Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Misconfigured:
    """The fault is in our registration or in the provider's address; no grant is to blame."""

    cause: Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttled:
    """Too many requests; `retry_after` is what the provider asked for, if it did."""

    cause: Cause
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unavailable:
    """The refresh token was not spent: the request did not leave, or was refused without touching it."""

    cause: Cause
    sent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class InDoubt:
    """The refresh token may have been spent and no answer was read."""

    cause: Cause


Failure = Dead | Misconfigured | Throttled | Unavailable | InDoubt
Outcome = Rotated | Failure


def label(outcome: Outcome) -> str:
    """Return the outcome's metric label."""
    match outcome:
        case Rotated():
            return "rotated"
        case Dead():
            return "dead"
        case Misconfigured():
            return "misconfigured"
        case Throttled():
            return "throttled"
        case Unavailable():
            return "unavailable"
        case InDoubt():
            return "in_doubt"


def reason(outcome: Outcome) -> Reason:
    """Return why, as a metric label."""
    return Reason.OK if isinstance(outcome, Rotated) else outcome.cause.reason
