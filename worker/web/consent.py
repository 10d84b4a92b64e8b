"""The consent endpoints: `/connect/{client}` sends the browser off, `/oauth/callback` receives it."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response

from worker.domain.errors import ConfigurationError
from worker.domain.outcome import Dead, Failure, InDoubt, Misconfigured, Throttled, Unavailable
from worker.logging import get_logger
from worker.storage.authorization_requests import StateRefused
from worker.storage.away import AWAY
from worker.storage.consents import Arrival
from worker.usecases.consent import (
    LONGEST_SUBJECT,
    CallbackMalformed,
    ConsentRefused,
    ConsentResult,
    ExchangeFailed,
    GrantStored,
    NoRefreshToken,
    WrongIssuer,
)
from worker.web.browser_mark import browser_mark, send_off
from worker.web.dependencies import TheContainer, ThePages
from worker.web.pages import Pages

router = APIRouter()
log = get_logger("evergrant.web")

_LONGEST_EMAIL: Final = 254  # RFC 5321 section 4.5.3.1.3, less the angle brackets
_AGAIN: Final = "Start again from the link that brought you here."


@router.get("/connect/{client}", response_model=None)
async def connect(
    request: Request,
    client: str,
    container: TheContainer,
    pages: ThePages,
    *,
    subject: Annotated[str, Query()] = "",
    email: Annotated[str | None, Query(max_length=_LONGEST_EMAIL)] = None,
) -> Response:
    """Send an owner's browser to the provider to authorize a client, on behalf of a subject."""
    if not 0 < len(subject) <= LONGEST_SUBJECT or not subject.isprintable():
        text = f"The address must end in ?subject=…, with 1 to {LONGEST_SUBJECT} printable characters."
        return pages.message(400, "Whose grant is this?", text)
    if email is not None and not email.isprintable():
        return pages.message(400, "This address cannot be used", "The e-mail address holds characters that none has.")
    try:
        started = await container.consent.begin(client, subject, email, browser_mark(request, container))
    except ConfigurationError as error:
        return _no_such_client(pages, error)
    except AWAY as error:
        return _database_away(pages, "consent_not_begun", error)
    return send_off(started, container)


@router.get("/oauth/callback", response_model=None)
async def callback(request: Request, container: TheContainer, pages: ThePages) -> HTMLResponse:
    """Receive the browser back from the provider, exchange the code and store the grant."""
    pairs = request.query_params.multi_items()
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        # RFC 6749 section 3.1: a parameter that stands twice makes the answer invalid.
        return _answer(pages, CallbackMalformed(what="a parameter stands twice"))
    try:
        result = await container.consent.finish(parameters, browser_mark(request, container))
    except ConfigurationError as error:
        return _no_such_client(pages, error)
    except AWAY as error:
        return _database_away(pages, "consent_not_stored", error)
    if isinstance(result, GrantStored) and result.arrival is Arrival.REVIVED:
        container.observers.revived(result.client)
    return _answer(pages, result)


def _no_such_client(pages: Pages, error: ConfigurationError) -> HTMLResponse:
    said = str(error)
    return pages.message(404, "No such client", f"{said[:1].upper()}{said[1:]}.")


def _database_away(pages: Pages, event: str, error: BaseException) -> HTMLResponse:
    log.error(event, error=type(error).__name__)
    text = "Our database does not answer. Wait a moment and try again, from the link that brought you here."
    return pages.message(503, "Not now", text)


def _answer(pages: Pages, result: ConsentResult) -> HTMLResponse:  # noqa: PLR0911, C901 -- one page for each result
    match result:
        case GrantStored(client=client, subject=subject):
            return pages.message(200, "Connected", f"{subject} is connected through {client}. You can close this page.")
        case CallbackMalformed(what=what):
            return pages.message(400, "This answer is not complete", f"In what the provider sent, {what}. {_AGAIN}")
        case StateRefused.UNKNOWN:
            return pages.message(400, "We do not know this request", f"It was not started here, or long ago. {_AGAIN}")
        case StateRefused.FOREIGN:
            text = f"This request was started in another browser, or its cookie is gone. {_AGAIN}"
            return pages.message(400, "Not started in this browser", text)
        case StateRefused.USED:
            text = "This answer was used before. If you saw “Connected”, all is well; otherwise start again."
            return pages.message(400, "Already used", text)
        case StateRefused.EXPIRED:
            return pages.message(400, "This took too long", f"A request is good for 15 minutes. {_AGAIN}")
        case ConsentRefused(error="access_denied"):
            return pages.message(403, "Not authorized", f"You chose not to authorize. Nothing was stored. {_AGAIN}")
        case ConsentRefused(error=error):
            return pages.message(502, "The provider refused", f"It answered “{error}”. Nothing was stored. {_AGAIN}")
        case WrongIssuer():
            text = f"The answer came from another server than the one you were sent to. Nothing was stored. {_AGAIN}"
            return pages.message(400, "Wrong provider", text)
        case NoRefreshToken():
            text = "The provider gave no refresh token, so there is nothing that could be kept alive. "
            return pages.message(502, "No lasting access", text + "Tell whoever runs this service.")
        case ExchangeFailed(failure=failure):
            return pages.message(502, "Not connected", _why_not_connected(failure))


def _why_not_connected(failure: Failure) -> str:
    match failure:
        case Misconfigured():
            return "The provider does not accept our registration. Nothing was stored. Tell whoever runs this service."
        case InDoubt():
            return f"The provider's answer could not be read. Nothing was stored. {_AGAIN}"
        case Dead() | Throttled() | Unavailable():
            return f"The provider did not accept the code. Nothing was stored. {_AGAIN}"
