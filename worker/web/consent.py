"""The consent endpoints: `/connect/{client}` sends the browser off, `/oauth/callback` receives it."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Query, Request
from fastapi.responses import HTMLResponse, Response
from starlette.background import BackgroundTask

from worker.bootstrap import Container
from worker.domain.errors import ConfigurationError
from worker.logging import get_logger
from worker.storage.away import AWAY
from worker.usecases.consent import LONGEST_SUBJECT
from worker.usecases.consent_results import (
    CallbackMalformed,
    ConsentResult,
    GrantStored,
    IdTokenInvalid,
    NotStored,
    NotTheAccount,
)
from worker.web.browser_mark import browser_mark, send_off
from worker.web.consent_pages import ConsentPages
from worker.web.dependencies import TheContainer, ThePages
from worker.web.page_route import public_router
from worker.web.pages import Pages

router = public_router()
log = get_logger("evergrant.web")

_LONGEST_EMAIL: Final = 254  # RFC 5321 section 4.5.3.1.3, less the angle brackets
_LONGEST_URL: Final = 2048


@router.get("/connect/{client}", response_model=None)
async def connect(
    request: Request,
    client: str,
    container: TheContainer,
    pages: ThePages,
    *,
    subject: Annotated[str, Query()] = "",
    email: Annotated[str | None, Query(max_length=_LONGEST_EMAIL)] = None,
    return_to: Annotated[str | None, Query(max_length=_LONGEST_URL)] = None,
) -> Response:
    """Send an owner's browser to the provider to authorize a client, on behalf of a subject.

    Afterwards the owner is sent on to `return_to`, which must be one of the client's `return_urls`; without it, to the
    first of them.
    """
    if not 0 < len(subject) <= LONGEST_SUBJECT or not subject.isprintable():
        text = f"The address must end in ?subject=…, with 1 to {LONGEST_SUBJECT} printable characters."
        return pages.message(400, "Whose grant is this?", text)
    if email is not None and not email.isprintable():
        return pages.message(400, "This address cannot be used", "The e-mail address holds characters that none has.")
    try:
        container.configuration.registry.client(client)
        if return_to is not None and not container.consent.may_return(client, return_to):
            text = "return_to must be one of the client's return_urls, letter by letter. Tell whoever sent you here."
            return pages.message(400, "This address cannot be used", text)
        started = await container.consent.begin(client, subject, email, browser_mark(request, container), return_to)
    except ConfigurationError as error:
        return _no_such_client(pages, error)
    except AWAY as error:
        return _database_away(pages, "consent_not_begun", error)
    return send_off(started, container)


@router.get("/oauth/callback", response_model=None)
async def callback(request: Request, container: TheContainer, pages: ThePages) -> Response:
    """Receive the browser back from the provider, exchange the code and store the grant."""
    pairs = request.query_params.multi_items()
    parameters = dict(pairs)
    consent_pages = ConsentPages(pages=pages, registry=container.configuration.registry)
    if len(parameters) != len(pairs):
        # RFC 6749 section 3.1: a parameter that stands twice makes the answer invalid.
        return consent_pages.answer(CallbackMalformed(what="a parameter stands twice"))
    try:
        result = await container.consent.finish(parameters, browser_mark(request, container))
    except ConfigurationError as error:
        return _no_such_client(pages, error)
    except AWAY as error:
        return _database_away(pages, "consent_not_stored", error)
    response = consent_pages.answer(result)
    response.background = _afterwards(container, result)
    return response


def _afterwards(container: Container, result: ConsentResult) -> BackgroundTask | None:
    """Return what is left to do when the owner has been answered."""
    if isinstance(result, IdTokenInvalid):
        container.observers.id_token_refused(result.asked.client, result.claim, result.found_issuer)
    match result:
        case (
            GrantStored(unneeded=unneeded)
            | NotTheAccount(unneeded=unneeded)
            | IdTokenInvalid(unneeded=unneeded)
            | NotStored(unneeded=unneeded)
        ) if unneeded is not None:
            return BackgroundTask(container.giving_back.give_back, unneeded)
        case _:
            return None


def _no_such_client(pages: Pages, error: ConfigurationError) -> HTMLResponse:
    said = str(error)
    return pages.message(404, "No such client", f"{said[:1].upper()}{said[1:]}.")


def _database_away(pages: Pages, event: str, error: BaseException) -> HTMLResponse:
    log.error(event, error=type(error).__name__)
    text = "Our database does not answer. Wait a moment and try again, from the link that brought you here."
    return pages.message(503, "Not now", text)
