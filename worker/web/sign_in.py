"""Signing in and out: the page that says how, links that sign in once, and the end of a session, here or everywhere."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Final
from urllib.parse import urlencode
from uuid import UUID

from fastapi import Query, Request
from fastapi.responses import RedirectResponse, Response

from worker.bootstrap import Container
from worker.domain.audit import Act
from worker.domain.own_path import FIRST_PAGE, own_path
from worker.domain.roles import Caller, CallerKind, Role
from worker.domain.secret import Secret
from worker.logging import get_logger
from worker.storage.away import AWAY
from worker.storage.sessions import Person
from worker.web.admission import Notes, address_of, one_line, write_down
from worker.web.dependencies import TheContainer, ThePages
from worker.web.page_route import SIGN_IN, TheNotes, ThePerson, page_router, person_here, public_router
from worker.web.pages import Link, Pages
from worker.web.session_cookie import brought_session, hand_out_session, may_hold_sessions, take_back_session
from worker.web.sign_in_rate import SignInRate

public = public_router()
router = page_router()
log = get_logger("evergrant.web")

_NEEDS_HTTPS: Final = (
    "EVERGRANT_PUBLIC_URL begins with http:// and is not this machine's, so a session could be read on its way. "
    "Set it to the https:// address under which browsers come."
)


@public.get(SIGN_IN, response_model=None, include_in_schema=False)
async def sign_in(
    request: Request, container: TheContainer, pages: ThePages, *, return_to: Annotated[str | None, Query()] = None
) -> Response:
    """Say how to sign in; who has signed in already goes on."""
    if not may_hold_sessions(container):
        return nobody_here(pages)
    try:
        if await person_here(request, container) is not None:
            return RedirectResponse(own_path(return_to), HTTPStatus.SEE_OTHER)
    except AWAY as error:
        return database_away(pages, error)
    rules = container.configuration.sign_in
    start = f"{SIGN_IN}/start?{urlencode({'return_to': own_path(return_to)})}"
    return pages.render("sign_in.html", at=rules.display_name if rules is not None else None, start=start)


@public.get(f"{SIGN_IN}/link/{{link}}", response_model=None, include_in_schema=False)
async def by_link(request: Request, link: str, container: TheContainer, pages: ThePages) -> Response:
    """Sign somebody in by a link that was printed for them."""
    if not may_hold_sessions(container):
        return nobody_here(pages)
    if not container.sessions.is_link(Secret(link)) and not await rate_of(request).may_try(
        address_of(request, container)
    ):
        return too_often(pages)
    try:
        begun = await container.sessions.begin_by_link(
            Secret(link), address=address_of(request, container), agent=request.headers.get("user-agent")
        )
        if begun is None:
            text = "Each link signs in once and for an hour. `evergrant console link` prints another one."
            again = Link(label="Sign in", href=SIGN_IN)
            return pages.message(HTTPStatus.GONE, "This link was used or has run out", text, links=[again])
        person, session_id, cookie = begun
        await _end_former(request, container)
        return await _enter(
            request, container, person, session_id=session_id, cookie=cookie, return_to=FIRST_PAGE, by="link"
        )
    except AWAY as error:
        return database_away(pages, error)


@router.act("/sign-out", Role.READER, Act.SIGN_OUT)
async def sign_out(person: ThePerson, container: TheContainer) -> Response:
    """End this session."""
    await container.sessions.end(person.caller.id)
    return _signed_out(container)


@router.act("/sign-out/everywhere", Role.READER, Act.SIGN_OUT_EVERYWHERE)
async def sign_out_everywhere(person: ThePerson, container: TheContainer, notes: TheNotes) -> Response:
    """End all sessions of this person, in every browser."""
    notes.details["sessions"] = await container.sessions.end_everywhere(person.signed_in)
    return _signed_out(container)


async def begin_session(
    request: Request, container: Container, person: Person, return_to: str, *, by: str
) -> RedirectResponse:
    """Begin a session with an id of its own, end the one that the browser had, and send it on.

    Args:
        request: tells from where.
        container: knows the sessions.
        person: who has signed in.
        return_to: a path of ours.
        by: how they have shown who they are, for the audit log.

    """
    await _end_former(request, container)
    session_id, cookie = await container.sessions.begin(
        person, address=address_of(request, container), agent=request.headers.get("user-agent")
    )
    return await _enter(request, container, person, session_id=session_id, cookie=cookie, return_to=return_to, by=by)


async def _end_former(request: Request, container: Container) -> None:
    """End the session that the browser has, if it has one."""
    former = brought_session(request, container)
    before = await container.sessions.recognize(former, in_use=False) if former is not None else None
    if before is not None:
        await container.sessions.end(before.caller.id)


async def _enter(
    request: Request, container: Container, person: Person, *, session_id: UUID, cookie: Secret, return_to: str, by: str
) -> RedirectResponse:
    """Write down that a session has begun, and send the browser on with its cookie."""
    name = one_line(person.name)
    caller = Caller(id=session_id, name=name, role=person.role, client=person.client, kind=CallerKind.PERSON)
    notes = Notes(client=person.client, details={"by": by, "subject": person.subject})
    await write_down(request, container, Act.SIGN_IN, caller, notes=notes)
    response = RedirectResponse(own_path(return_to), HTTPStatus.SEE_OTHER)
    lifetime = container.configuration.web.session_lifetime
    hand_out_session(response, container, cookie, int(lifetime.total_seconds()))
    return response


def rate_of(request: Request) -> SignInRate:
    """Return what counts attempts to sign in."""
    rate: SignInRate = request.app.state.sign_in_rate
    return rate


def too_often(pages: Pages) -> Response:
    """Return what is said to whoever has tried too often."""
    text = "Somebody at your address has tried too often. Wait a minute, then begin again; no link was used."
    answer = pages.message(HTTPStatus.TOO_MANY_REQUESTS, "Not so fast", text)
    answer.headers["Retry-After"] = "60"
    return answer


def nobody_here(pages: Pages) -> Response:
    """Return what is said where no cookie can hold a session safely."""
    return pages.message(HTTPStatus.FORBIDDEN, "Nobody can sign in here", _NEEDS_HTTPS)


def _signed_out(container: Container) -> Response:
    response = RedirectResponse(SIGN_IN, HTTPStatus.SEE_OTHER)
    take_back_session(response, container)
    # Nothing of what this person saw stays in the browser, its back button included (RFC 9110, W3C Clear Site Data).
    response.headers["Clear-Site-Data"] = '"cache", "storage"'
    return response


def database_away(pages: Pages, error: BaseException) -> Response:
    """Return what is said while nobody can sign in for want of the database."""
    log.error("nobody_signed_in", error=type(error).__name__)
    text = "Wait a moment and try again. If a link was used by then, `evergrant console link` prints another one."
    return pages.message(HTTPStatus.SERVICE_UNAVAILABLE, "The database does not answer", text)
