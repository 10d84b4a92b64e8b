"""What can come of a callback: values, each of which has a page."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from worker.domain.account import AccountCheck
from worker.domain.grant import GrantState
from worker.domain.outcome import Failure, reason
from worker.domain.secret import Secret
from worker.storage.authorization_requests import Asked, StateRefused, TookTooLong
from worker.storage.consents import Arrival
from worker.usecases.give_back import Unneeded


class ConsentEnd(StrEnum):
    """How a consent ended: a metric's label, a log's word, and what a browser is told that comes again."""

    CONNECTED = "connected"
    KEPT = "kept"  #: granted, and waiting for the database
    DENIED = "denied"  #: by the owner
    ACCOUNT_REFUSED = "account_refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentStarted:
    """Where the browser goes, and the mark that it must bring back."""

    location: Secret
    browser: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantStored:
    """The consent is complete."""

    asked: Asked
    grant_id: UUID
    arrival: Arrival
    state: GrantState
    unneeded: Unneeded | None = None  #: what is to be given back to the provider, when the owner has been answered


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantKept:
    """The owner has authorized, and the tokens wait in the escrow for the database."""

    asked: Asked


@dataclass(frozen=True, slots=True, kw_only=True)
class NotStored:
    """The database did not take the tokens and nothing else kept them: the owner has to begin again."""

    asked: Asked
    unneeded: Unneeded | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotTheAccount:
    """The consent is for another account than the grant's, or nobody can tell; nothing of it is stored."""

    asked: Asked
    grant_id: UUID
    check: AccountCheck
    unneeded: Unneeded | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IdTokenInvalid:
    """The ID token was not made for this consent: the code may be somebody else's."""

    asked: Asked
    claim: str
    found_issuer: str | None = None  #: what it calls its issuer, where that is what does not hold
    unneeded: Unneeded | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackMalformed:
    """The callback lacks a parameter that it must have, or brings it twice or far too long."""

    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorWithoutState:
    """The authorization server answered with an error and did not say to which request."""

    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """The same answer came before from this browser; `ended` is what came of it, None where that is still open."""

    asked: Asked
    ended: ConsentEnd | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentRefused:
    """The authorization server answered with an error, such as `access_denied` (RFC 6749 section 4.1.2.1)."""

    asked: Asked
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongIssuer:
    """The answer names another authorization server than the one that was asked, or none (RFC 9207 section 2.4)."""

    asked: Asked


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeFailed:
    """The code did not bring tokens."""

    asked: Asked
    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class NoRefreshToken:
    """The exchange brought an access token only: nothing that could be kept alive."""

    asked: Asked


#: Once the state was found good: each belongs to a consent, and ends it.
Ending = (
    GrantStored
    | GrantKept
    | NotStored
    | NotTheAccount
    | IdTokenInvalid
    | ConsentRefused
    | WrongIssuer
    | ExchangeFailed
    | NoRefreshToken
    | CallbackMalformed
)
ConsentResult = Ending | Replayed | TookTooLong | StateRefused | ErrorWithoutState


def end_of(result: Ending) -> ConsentEnd:
    """Return how a consent ended."""
    match result:
        case GrantStored():
            return ConsentEnd.CONNECTED
        case GrantKept():
            return ConsentEnd.KEPT
        case ConsentRefused(error="access_denied"):
            return ConsentEnd.DENIED
        case NotTheAccount():
            return ConsentEnd.ACCOUNT_REFUSED
        case (
            NotStored()
            | IdTokenInvalid()
            | ConsentRefused()
            | WrongIssuer()
            | ExchangeFailed()
            | NoRefreshToken()
            | CallbackMalformed()
        ):
            return ConsentEnd.FAILED


def why(result: Ending) -> str | None:  # noqa: PLR0911 -- one word for each result
    """Return why a consent did not connect, as a word for the log; None where it did."""
    match result:
        case GrantStored() | GrantKept():
            return None
        case NotStored():
            return "database_away"
        case NotTheAccount(check=check):
            return check.value
        case IdTokenInvalid(claim=claim):
            return f"id_token_{claim}"
        case ConsentRefused(error=error):
            return error
        case WrongIssuer():
            return "wrong_issuer"
        case ExchangeFailed(failure=failure):
            return reason(failure).value
        case NoRefreshToken():
            return "no_refresh_token"
        case CallbackMalformed():
            return "malformed"
