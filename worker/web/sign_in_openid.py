"""Signing in at an OpenID provider: off to it, and back with its answer."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import Query, Request
from fastapi.responses import RedirectResponse, Response

from worker.bootstrap import Container
from worker.domain.audit import Act, Actor, ActOutcome, AuditEntry
from worker.domain.own_path import own_path
from worker.domain.roles import CallerKind
from worker.domain.secret import Secret
from worker.logging import get_logger
from worker.openid.flow import (
    REQUEST_LIFETIME,
    NotSignedIn,
    OpenIdFlow,
    ProviderUnavailableError,
    Recognized,
    WhyNotSignedIn,
)
from worker.storage.away import AWAY
from worker.storage.sessions import Person
from worker.web.admission import address_of, one_line
from worker.web.dependencies import TheContainer, ThePages
from worker.web.page_route import SIGN_IN, public_router
from worker.web.pages import Link, Pages
from worker.web.session_cookie import cookie_name, may_hold_sessions, set_cookie
from worker.web.sign_in import begin_session, database_away, nobody_here, rate_of, too_often

router = public_router()
log = get_logger("evergrant.web")

_COOKIE: Final = "evergrant_sign_in"
_AGAIN: Final = (Link(label="Sign in", href=SIGN_IN),)
_SAID: Final[Mapping[WhyNotSignedIn, tuple[HTTPStatus, str, str]]] = {
    WhyNotSignedIn.NOT_BEGUN_HERE: (
        HTTPStatus.BAD_REQUEST,
        "This sign-in was not begun here",
        "It took longer than ten minutes, was finished already, or began in another browser. Begin again.",
    ),
    WhyNotSignedIn.DENIED: (
        HTTPStatus.FORBIDDEN,
        "You were not signed in",
        "Your organization's sign-in said no, or you did. Begin again if you like.",
    ),
    WhyNotSignedIn.WRONG_ISSUER: (
        HTTPStatus.BAD_REQUEST,
        "Wrong provider",
        "The answer came from another server than the one you were sent to. Nothing was changed.",
    ),
    WhyNotSignedIn.NOT_ANSWERED: (
        HTTPStatus.BAD_GATEWAY,
        "Your organization's sign-in does not answer",
        "Try again in a moment. `evergrant console link` on the server signs in without it; the log says more.",
    ),
    WhyNotSignedIn.NOT_GENUINE: (
        HTTPStatus.BAD_GATEWAY,
        "This answer does not fit",
        "What your organization's sign-in says does not belong to this request. Begin again; the log says more.",
    ),
}


@router.get(f"{SIGN_IN}/start", response_model=None, include_in_schema=False)
async def start(
    request: Request, container: TheContainer, pages: ThePages, *, return_to: Annotated[str | None, Query()] = None
) -> Response:
    """Send a browser to the OpenID provider."""
    if not may_hold_sessions(container):
        return nobody_here(pages)
    if container.openid is None:
        return RedirectResponse(SIGN_IN, HTTPStatus.SEE_OTHER)
    if not await rate_of(request).may_begin(address_of(request, container)):
        return too_often(pages)
    try:
        begun = await container.openid.begin(own_path(return_to))
    except ProviderUnavailableError as error:
        log.error("openid_provider_unavailable", why=str(error))  # noqa: TRY400 -- the message says all
        return _not_signed_in(pages, WhyNotSignedIn.NOT_ANSWERED)
    response = RedirectResponse(begun.location, HTTPStatus.FOUND)
    lifetime = int(REQUEST_LIFETIME.total_seconds())
    set_cookie(response, container, _cookie(container), begun.remembered.reveal(), lifetime)
    return response


@router.get(f"{SIGN_IN}/callback", response_model=None, include_in_schema=False)
async def callback(request: Request, container: TheContainer, pages: ThePages) -> Response:
    """Receive a browser back from the OpenID provider, and sign in whom it has recognized."""
    if not may_hold_sessions(container):
        return nobody_here(pages)
    if container.openid is None:
        return RedirectResponse(SIGN_IN, HTTPStatus.SEE_OTHER)
    pairs = request.query_params.multi_items()
    answer = dict(pairs) if len(dict(pairs)) == len(pairs) else {}  # RFC 6749 section 3.1: none may stand twice
    cookie = request.cookies.get(_cookie(container))
    brought = Secret(cookie) if cookie else None
    rate = rate_of(request)
    # Whoever comes back from a second factor is not kept out by others of the same address.
    may_answer = (
        await rate.may_answer(answer["state"])
        if container.openid.is_answer(answer, brought)
        else await rate.may_try(address_of(request, container))
    )
    if not may_answer:
        return too_often(pages)
    try:
        found = await container.openid.finish(answer, brought)
        response = await _answered(request, container, pages, container.openid, found)
    except AWAY as error:
        response = database_away(pages, error)
    set_cookie(response, container, _cookie(container), "", 0)  # an answer is good for one time
    return response


async def _answered(
    request: Request, container: Container, pages: Pages, openid: OpenIdFlow, found: Recognized | NotSignedIn
) -> Response:
    match found:
        case NotSignedIn(why=why, detail=detail):
            log.warning("nobody_signed_in", why=why, detail=detail)
            return _not_signed_in(pages, why)
        case Recognized():
            entry = openid.rules.role_of(found.groups)
            if entry is None:
                await _refuse(request, container, found)
                text = (
                    f"You are {found.name}, and none of your groups has a role here. Whoever runs this service maps "
                    "groups to roles in [[sign_in.groups]]."
                )
                return pages.message(HTTPStatus.FORBIDDEN, "You may not see this", text, links=_AGAIN)
            person = Person(
                issuer=found.issuer, subject=found.subject, name=found.name, role=entry.role, client=entry.client
            )
            return await begin_session(request, container, person, found.return_to, by=found.issuer)


async def _refuse(request: Request, container: Container, found: Recognized) -> None:
    name, address = one_line(found.name), address_of(request, container)
    actor = Actor(kind=CallerKind.PERSON, id=None, name=name, role=None, address=address)
    why = "no group of theirs has a role"
    details = {"by": one_line(found.issuer), "subject": one_line(found.subject), "why": why}
    await container.audit.write(AuditEntry(actor=actor, act=Act.SIGN_IN, outcome=ActOutcome.REFUSED, details=details))


def _not_signed_in(pages: Pages, why: WhyNotSignedIn) -> Response:
    status, title, text = _SAID[why]
    return pages.message(status, title, text, links=_AGAIN)


def _cookie(container: Container) -> str:
    return cookie_name(container.settings.public_url, _COOKIE)
