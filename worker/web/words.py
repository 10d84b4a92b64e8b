"""What happened, in plain words: the cause, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from worker.domain.account import AccountCheck
from worker.domain.grant import GrantState
from worker.domain.outcome import Reason
from worker.domain.reconsent import MailKind, MailState

_MAYBE_SPENT: Final = "The refresh token may be spent; a worker finds out by itself."
_REASONS: Final[Mapping[str, str]] = {
    Reason.INVALID_GRANT: "The provider says this consent has ended (revoked, expired, or replaced). "
    "Send its owner a re-consent mail.",
    Reason.ROTATION_REPLY_LOST: "The provider rotated the refresh token and its answer never arrived. "
    "Send its owner a re-consent mail.",
    Reason.REFRESH_TOKEN_EXPIRED: "The refresh token reached its end. Send its owner a re-consent mail.",
    Reason.INVALID_CLIENT: "The provider does not accept our client id or secret. Correct the client's secret; "
    "no grant is harmed.",
    Reason.UNAUTHORIZED_CLIENT: "The provider does not allow this client to refresh. Check the registration there.",
    Reason.INVALID_REQUEST: "The provider does not understand our request. "
    "Check token_request_encoding and client_auth.",
    Reason.INVALID_SCOPE: "The provider does not grant these scopes to this client. Check the registration there.",
    Reason.UNSUPPORTED_GRANT_TYPE: "The provider does not refresh tokens at this address. Check token_endpoint.",
    Reason.ENDPOINT_NOT_FOUND: "There is no token endpoint at this address. Check token_endpoint.",
    Reason.REDIRECTED: "The token endpoint redirects elsewhere, which is not followed. Check token_endpoint.",
    Reason.TLS: "The provider's certificate is not trusted. Check token_endpoint and this machine's certificates.",
    Reason.PRIVATE_ADDRESS: "The provider's name leads to a private address, which is not called. "
    "Check token_endpoint, or set allow_private_addresses where it is meant.",
    Reason.UNREADABLE_TOKEN: "A stored token does not open with the keys at hand. Check EVERGRANT_KEYS.",
    Reason.RATE_LIMITED: "The provider asks us to slow down. Nothing to do; consider a rate for this client.",
    Reason.CONNECT: "The provider cannot be reached. Nothing was spent; it is tried again.",
    Reason.REQUEST_INCOMPLETE: "The request lacks a value that the provider's facts ask for; the code names it. "
    "Fill it in under [clients.NAME.placeholders], or send its owner a re-consent mail.",
    Reason.TEMPORARILY_UNAVAILABLE: "The provider is unavailable for now. It is tried again.",
    Reason.UNRECOGNIZED_ERROR: "The provider answers with an error that is not known here. It is tried again.",
    Reason.NO_ANSWER: f"The connection broke before the answer came. {_MAYBE_SPENT}",
    Reason.TIMEOUT: f"The provider did not answer in time. {_MAYBE_SPENT}",
    Reason.SERVER_ERROR: f"The provider failed while answering. {_MAYBE_SPENT}",
    Reason.UNREADABLE_ANSWER: f"The provider's answer could not be read. {_MAYBE_SPENT}",
    Reason.WORKER_DIED: f"A worker ended while the request was under way. {_MAYBE_SPENT}",
    Reason.LEASE_TOO_SHORT: "This worker was stopped for a while and sent nothing. It is tried again.",
}

#: Why a grant is not active, in a few words: what lists are filtered by.
REASON_NAMES: Final[Mapping[str, str]] = {
    Reason.INVALID_GRANT: "consent ended at the provider",
    Reason.ROTATION_REPLY_LOST: "rotation's answer lost",
    Reason.REFRESH_TOKEN_EXPIRED: "consent reached its end",
    Reason.NO_ANSWER: "connection broke",
    Reason.TIMEOUT: "no answer in time",
    Reason.SERVER_ERROR: "provider failed while answering",
    Reason.UNREADABLE_ANSWER: "answer not readable",
    Reason.WORKER_DIED: "a worker ended",
    "operator": "an operator's will",
}

_ACCOUNT_REASONS: Final[Mapping[str, str]] = {
    AccountCheck.ANOTHER: "Nothing was stored. If the change is meant: evergrant grants forget-account.",
    AccountCheck.NOT_TOLD: "The provider did not say whose account it was. Nothing was stored.",
}

_EVENTS: Final[Mapping[str, str]] = {
    "grant.created": "came in",
    "grant.revived": "came back: its owner authorized again",
    "grant.reconsented": "was authorized again by its owner",
    "grant.account_refused": "was not connected: its owner came back with another account",
    "grant.account_shared": "is for an account that another grant is for as well",
    "grant.account_changed": "had its account changed by an operator",
    "grant.in_doubt": "fell into doubt",
    "grant.reconsent_required": "came to need its owner",
    "grant.reconsent_mailed": "had its owner mailed a link to authorize again",
    "grant.reconsent_mail_failed": "could not have its owner mailed",
    "grant.expiring": "will come to need its owner: its consent ends",
    "grant.scopes_narrowed": "lost scopes: the provider gives fewer than before",
    "grant.refresh_token_missing": "was refreshed, and the answer brought no new refresh token",
    "grant.paused": "was paused by an operator",
    "grant.resumed": "goes on",
    "grant.revoked": "was ended by an operator",
    "client.paused": "was held back",
    "client.resumed": "goes on",
    "client.braked": "had abnormally many deaths at once: further ones count as suspicions",
}

_STATES: Final[Mapping[GrantState, str]] = {
    GrantState.ACTIVE: "kept alive",
    GrantState.IN_DOUBT: "in doubt",
    GrantState.SUSPECT: "suspect",
    GrantState.RECONSENT_REQUIRED: "needs its owner",
    GrantState.PAUSED: "paused",
    GrantState.REVOKED: "revoked",
}

_MAIL_KINDS: Final[Mapping[str, str]] = {
    MailKind.DEATH: "the grant has come to need its owner",
    MailKind.REMINDER: "a reminder",
    MailKind.EXPIRING: "the consent ends soon",
    MailKind.OPERATOR: "asked for by an operator",
    MailKind.OWNER: "a new link, asked for by its owner",
}
_MAIL_STATES: Final[Mapping[str, str]] = {
    MailState.WAITING: "planned, if it is still needed",
    MailState.SENDING: "is being sent",
    MailState.SENT: "sent",
    MailState.REFUSED: "refused by the mail server for good",
    MailState.BOUNCED: "came back: it could not be delivered",
    MailState.GIVEN_UP: "given up after days",
    MailState.CANCELLED: "not needed any more",
    MailState.NOTED: "only noted",
}

_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def plain_reason(reason: str | None) -> str:
    """Return a reason in plain words, with what to do next."""
    if reason is None:
        return ""
    return _REASONS.get(reason) or _ACCOUNT_REASONS.get(reason) or reason.replace("_", " ")


def short_reason(reason: str | None) -> str:
    """Return a reason in a few words, for a column."""
    if reason is None:
        return ""
    return REASON_NAMES.get(reason) or reason.replace("_", " ")


def plain_event(event_type: str) -> str:
    """Return what an event says of its grant or client."""
    return _EVENTS.get(event_type, event_type)


def plain_state(state: GrantState, count: int) -> str:
    """Return what a person says of so many grants in a state."""
    if state is GrantState.RECONSENT_REQUIRED and count != 1:
        return "need their owner"
    return _STATES[state]


def mail_kind(kind: str) -> str:
    """Return what a mail is for."""
    return _MAIL_KINDS[kind]


def mail_state(state: str) -> str:
    """Return what has become of a mail."""
    return _MAIL_STATES[state]


def ago(at: datetime | None, now: datetime) -> str:
    """Return how long ago, or in how long, an instant is, in its largest unit."""
    if at is None:
        return "never"
    seconds = (now - at).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"{lasting(seconds)} ago" if seconds > 0 else f"in {lasting(-seconds)}"


def instant(at: datetime | None) -> str:
    """Return an instant in full, for the hover text beside a relative one."""
    return at.strftime("%Y-%m-%d %H:%M:%S UTC") if at is not None else ""


def day(at: datetime | None) -> str:
    """Return the day of an instant, as people say it."""
    return f"{at.astimezone(UTC).day} {at.astimezone(UTC):%B %Y}" if at is not None else "an unknown day"


def clock(at: datetime) -> str:
    """Return an instant's time of day, for what happened moments ago."""
    return at.astimezone(UTC).strftime("%H:%M:%S UTC")


def lasting(seconds: float) -> str:
    """Return how long something takes or is late, in its largest unit."""
    for length, unit in _UNITS:
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return "less than 1 s"


def number(value: int) -> str:
    """Return a count with its thousands set apart."""
    return f"{value:,}"
