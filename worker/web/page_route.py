"""A page's route: it declares its role, lets in whom that allows, and takes no form that was not ours.

    router = page_router()

    @router.page("/grants", Role.READER)
    async def grants(person: ThePerson, pages: ThePages, ...) -> HTMLResponse: ...

    @router.act("/grants/{grant_id}/pause", Role.OPERATOR, Act.GRANT_PAUSED)
    async def pause(person: ThePerson, notes: TheNotes, ...) -> Response: ...

A form holds `{{ person.csrf_field }}`; a script sends `person.csrf` as the header `X-CSRF-Token`. What an act did is in
the audit log without further ado; `notes` adds what the path does not tell.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute
from markupsafe import Markup
from starlette.exceptions import HTTPException as StarletteHTTPException

from worker.bootstrap import Container
from worker.domain.audit import Act
from worker.domain.roles import Caller, Role
from worker.logging import get_logger
from worker.storage.away import AWAY
from worker.usecases.sessions import SignedIn
from worker.web.admission import PUBLIC, Declared, RoleTooLowError, TheNotes, admit, audited, limited
from worker.web.pages import Link, Pages
from worker.web.session_cookie import brought_session

log = get_logger("evergrant.web")

__all__ = ["PageRouter", "PersonHere", "Refused", "TheNotes", "ThePerson", "not_there", "page_router", "public_router"]

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
Handler = Callable[[Request], Coroutine[Any, Any, Response]]

#: Where people sign in.
SIGN_IN: Final = "/sign-in"
CSRF_FIELD: Final = "csrf"
CSRF_HEADER: Final = "x-csrf-token"
#: The longest form is a selection of some thousand grants by their ids.
LONGEST_FORM: Final = 1024 * 1024
#: Seconds after which a browser asks again for a page, while the database does not answer.
_ASK_AGAIN: Final = 5
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class PersonHere:
    """Who looks at a page: what its template and its route need to know of them.

    Args:
        signed_in: the session.

    """

    def __init__(self, signed_in: SignedIn) -> None:
        self.signed_in = signed_in
        self.caller: Caller = signed_in.caller
        self.name = signed_in.caller.name
        self.role = signed_in.caller.role
        #: The one client that they see; None: all.
        self.client = signed_in.caller.client
        self.csrf = signed_in.csrf.reveal()
        self.csrf_field = Markup('<input type="hidden" name="{}" value="{}">').format(CSRF_FIELD, self.csrf)

    def may(self, role: str) -> bool:
        """Tell whether their role is enough for what needs another: for a template that leaves a button out."""
        return self.caller.may(Role(role))

    def sees(self, client: str) -> bool:
        """Tell whether a client is their business."""
        return self.caller.sees(client)


class Refused(Exception):  # noqa: N818 -- it is an answer
    """A page that cannot be shown, or an act that cannot be done: said to the person as a page of one message.

    Args:
        status: of the answer.
        title: what is the matter.
        text: why, and what to do next.
        links: where to go from here.

    """

    def __init__(self, status: HTTPStatus, title: str, text: str, *, links: tuple[Link, ...] = ()) -> None:
        super().__init__(title)
        self.status, self.title, self.text, self.links = status, title, text, links


def not_there(what: str) -> Refused:
    """Return the refusal of what is not there, or is another client's: who may not see it need not know which."""
    text = "It may have been removed, or it belongs to a client that your role is not for."
    return Refused(HTTPStatus.NOT_FOUND, f"There is no such {what}", text, links=(Link(label="Overview", href="/"),))


class PublicRoute(APIRoute):
    """A route that is open to whoever can reach it, and says so."""

    declared = PUBLIC


class PageRoute(APIRoute):
    """Admits the person before anything else of the request is read; `page_router` makes one class for each route."""

    declared: Declared

    def get_route_handler(self) -> Handler:
        """Return FastAPI's handler for this route, guarded."""
        inner = super().get_route_handler()

        async def handle(received: Request) -> Response:
            request = Request(received.scope, limited(received.receive, LONGEST_FORM))
            container: Container = request.app.state.container
            pages: Pages = request.app.state.pages

            async def guarded() -> Response:
                refused = await _admitted(request, container, pages, self.declared)
                return refused or await inner(request)

            async def answered() -> Response:
                try:
                    return await guarded()
                except Refused as refused:
                    return pages.message(refused.status, refused.title, refused.text, links=refused.links)
                except RequestValidationError as error:
                    return _not_an_address(pages, error)
                except AWAY as error:
                    return _database_away(request, pages, error)
                except StarletteHTTPException:
                    raise  # it is an answer, such as 413
                except Exception:  # an act that failed must be written down as one
                    log.exception("page_failed")
                    text = "The log of this service tells more. Look whether it was done before you repeat it."
                    return pages.message(HTTPStatus.INTERNAL_SERVER_ERROR, "Something went wrong here", text)

            return await audited(request, container, self.declared, answered)

        return handle


class PageRouter(APIRouter):
    """A router each of whose routes declares its role."""

    def page(self, path: str, needs: Role, *, act: Act | None = None) -> Callable[[Endpoint], Endpoint]:
        """Add a page, which changes nothing.

        Args:
            path: where it is.
            needs: the role that may see it.
            act: as which it is written into the audit log; None: it is not.

        """
        return self._declared("GET", path, Declared(needs=needs, act=act))

    def act(self, path: str, needs: Role, act: Act) -> Callable[[Endpoint], Endpoint]:
        """Add what a form of ours does.

        Args:
            path: where it is posted to.
            needs: the role that may do it.
            act: as which it is written into the audit log.

        """
        return self._declared("POST", path, Declared(needs=needs, act=act))

    def _declared(self, method: str, path: str, declared: Declared) -> Callable[[Endpoint], Endpoint]:
        route_class = type("DeclaredPageRoute", (PageRoute,), {"declared": declared})

        def add(endpoint: Endpoint) -> Endpoint:
            self.add_api_route(
                path,
                endpoint,
                methods=[method],
                response_model=None,
                include_in_schema=False,
                route_class_override=route_class,
            )
            return endpoint

        return add


def page_router() -> PageRouter:
    """Return a router for pages of the console."""
    return PageRouter(include_in_schema=False)


def public_router() -> APIRouter:
    """Return a router for what is open to whoever can reach it."""
    return APIRouter(route_class=PublicRoute)


async def person_here(request: Request, container: Container) -> SignedIn | None:
    """Return who asks, or None where nobody has signed in in this browser.

    A page that keeps itself fresh by a script is not somebody at work, and does not keep a session from its idle end.
    """
    cookie = brought_session(request, container)
    if cookie is None:
        return None
    by_script = request.method in _SAFE and request.headers.get("sec-fetch-dest") == "empty"
    return await container.sessions.recognize(cookie, in_use=not by_script)


async def _admitted(request: Request, container: Container, pages: Pages, declared: Declared) -> Response | None:
    """Let a person in, or return what they are told instead."""
    signed_in = await person_here(request, container)
    if signed_in is None:
        return _to_sign_in(request, pages)
    request.state.person = PersonHere(signed_in)
    try:
        admit(request, signed_in.caller, declared)
    except RoleTooLowError as error:
        text = f"It needs the role {error.needed}, and you have the role {error.caller.role}. Ask an admin."
        return pages.message(HTTPStatus.FORBIDDEN, "You may not do this", text, links=[Link(label="Back", href="/")])
    if request.method not in _SAFE and not await _is_ours(request, container, signed_in):
        text = "The form did not come from a page of this session. Nothing was changed. Open the page again and repeat."
        return pages.message(HTTPStatus.FORBIDDEN, "This form is not ours", text, links=[Link(label="Back", href="/")])
    return None


async def _is_ours(request: Request, container: Container, signed_in: SignedIn) -> bool:
    """Tell whether a form comes from a page of this session, as its token shows."""
    # Browsers say where a request was made (Fetch Metadata): another site's needs no look at the rest.
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        return False
    token: object = request.headers.get(CSRF_HEADER)
    if token is None:
        token = (await request.form()).get(CSRF_FIELD)  # kept by the request, for whoever reads the form next
    return isinstance(token, str) and container.sessions.is_csrf_of(signed_in.caller.id, token)


def _to_sign_in(request: Request, pages: Pages) -> Response:
    # A script takes no page to sign in on for what it asked for.
    if request.headers.get("sec-fetch-dest") == "empty":
        return pages.message(HTTPStatus.UNAUTHORIZED, "You are signed out", "Load the page again to sign in.")
    # What was asked for can be asked for again; what was to be done must be looked at again first.
    if request.method not in _SAFE:
        return RedirectResponse(SIGN_IN, HTTPStatus.SEE_OTHER)
    path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    query = f"?{urlencode({'return_to': path})}" if path != "/" else ""
    return RedirectResponse(f"{SIGN_IN}{query}", HTTPStatus.SEE_OTHER)


def _not_an_address(pages: Pages, error: RequestValidationError) -> Response:
    named = ", ".join(sorted({str(found["loc"][-1]) for found in error.errors()}))
    text = f"A part of its address is none that the console gives out: {named}. Begin again from the overview."
    links = [Link(label="Overview", href="/")]
    return pages.message(HTTPStatus.BAD_REQUEST, "This page cannot be shown", text, links=links)


def _database_away(request: Request, pages: Pages, error: BaseException) -> Response:
    log.error("database_away", error=type(error).__name__)
    is_page = request.method in _SAFE
    text = "No refresh token is spent meanwhile. See the logs and /readyz"
    text += "; this page asks again by itself." if is_page else ". Look whether it was done before you repeat it."
    answer = pages.message(HTTPStatus.SERVICE_UNAVAILABLE, "The database does not answer", text)
    if is_page:
        answer.headers["Refresh"] = str(_ASK_AGAIN)
    return answer


async def _person(request: Request) -> PersonHere:
    person: PersonHere = request.state.person
    return person


ThePerson = Annotated[PersonHere, Depends(_person)]
