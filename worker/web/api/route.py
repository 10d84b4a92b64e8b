"""A route of the API: it lets in whom its role allows, answers every error with a problem, and repeats no POST."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Coroutine
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException as StarletteHTTPException

from worker.bootstrap import Container
from worker.domain.errors import ConfigurationError, SealError
from worker.domain.roles import Caller
from worker.logging import get_logger
from worker.storage.away import AWAY
from worker.storage.idempotency import AnotherRequest, Answer, Begun, UnderWay
from worker.web.admission import audited, limited
from worker.web.api.access import NEEDED, admit_token
from worker.web.api.problems import MALFORMED, Kind, Problem, documented, from_validation, request_invalid

log = get_logger("evergrant.api")

#: Two tokens of 64 KiB each and what goes with them; anything longer is no request of this API.
LONGEST_BODY: Final = 256 * 1024
#: Seconds after which the database may be back.
DATABASE_WAIT: Final = 5
_KEY_HEADER: Final = "idempotency-key"
_KEY_FORM: Final = r"^[!-~]{1,255}$"

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class ApiRoute(APIRoute):
    """Admits the caller before anything of the request is read, and turns what is raised into problem documents."""

    def get_route_handler(self) -> Handler:
        """Return FastAPI's handler for this route, guarded."""
        inner = super().get_route_handler()
        method = next(iter(self.methods or ()))
        self.declared = declared = NEEDED[method, self.path_format]

        async def handle(received: Request) -> Response:
            request = Request(received.scope, limited(received.receive, LONGEST_BODY))
            container: Container = request.app.state.container

            async def guarded() -> Response:
                caller = await admit_token(request, container, declared)
                key = request.headers.get(_KEY_HEADER)
                if method != "POST" or key is None or not re.fullmatch(_KEY_FORM, key):
                    return await inner(request)  # which refuses a malformed key
                return await _once(request, container, caller, key, lambda: _answered(lambda: inner(request)))

            return await audited(request, container, declared, lambda: _answered(guarded))

        return handle


async def _once(
    request: Request, container: Container, caller: Caller, key: str, act: Callable[[], Awaitable[Response]]
) -> Response:
    requests = container.idempotent_requests
    path = f"{request.url.path}?{request.url.query}"
    begun = await requests.begin(caller.id, key, method=request.method, path=path, body=await request.body())
    match begun:
        case UnderWay():
            detail = "A request with this Idempotency-Key is under way. Wait for its answer, or ask again soon."
            raise Problem(HTTPStatus.CONFLICT, Kind.REQUEST_UNDER_WAY, detail, retry_after=1)
        case AnotherRequest():
            detail = "A key is good for one request. Take a new one for each request that is not a repetition."
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, Kind.IDEMPOTENCY_KEY_REUSED, detail)
        case Answer():
            request.state.notes.details["replayed"] = True  # it was done before, by the entry that does not say so
            headers = {"Idempotency-Replayed": "true"} | ({"Location": begun.location} if begun.location else {})
            return Response(begun.body, begun.status, headers, media_type=begun.media_type)
        case Begun():
            pass
    try:
        response = await act()
    except BaseException:
        await requests.forget(begun.id)
        raise
    if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        await requests.forget(begun.id)  # nothing came of it, and it may be tried again
    else:
        answer = Answer(
            status=response.status_code,
            media_type=response.headers.get("content-type"),
            location=response.headers.get("location"),
            body=bytes(response.body).decode(),
        )
        try:
            await requests.finish(begun.id, answer)
        except AWAY as error:  # it is done all the same, and whoever asked must hear so
            log.error("answer_not_kept", error=type(error).__name__)  # noqa: TRY400 -- the trace would say no more
    return response


async def _answered(act: Callable[[], Awaitable[Response]]) -> Response:
    try:
        return await act()
    except (Problem, RequestValidationError, StarletteHTTPException, ConfigurationError) as error:
        return as_problem(error).answer()
    except AWAY as error:
        log.error("database_away", error=type(error).__name__)  # noqa: TRY400 -- the trace would say no more
        detail = "Nothing is lost meanwhile. Try again in a moment."
        return Problem(HTTPStatus.SERVICE_UNAVAILABLE, Kind.DATABASE_AWAY, detail, retry_after=DATABASE_WAIT).answer()
    except SealError as error:
        log.error("token_unreadable", error=str(error))  # noqa: TRY400 -- the message names key and row
        return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, Kind.INTERNAL, f"{error}.").answer()
    except Exception:
        log.exception("request_failed")
        return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, Kind.INTERNAL, "The log of this service tells more.").answer()


def as_problem(error: Exception) -> Problem:
    """Return what FastAPI, the configuration or a route has raised as a problem."""
    match error:
        case Problem():
            return error
        case RequestValidationError():
            return from_validation(error)
        case ConfigurationError():
            said = str(error)
            return Problem(HTTPStatus.CONFLICT, Kind.CLIENT_NOT_CONFIGURED, f"{said[:1].upper()}{said[1:]}.")
        case StarletteHTTPException():
            status = HTTPStatus(error.status_code)
            if status in _KINDS:
                kind, detail = _KINDS[status]
                return Problem(status, kind, detail, headers=error.headers)
            # FastAPI's word for a body that is no text, among others.
            return request_invalid(f"{error.detail}.", pointer="#")
        case _:
            raise error


_KINDS: Final = {
    HTTPStatus.NOT_FOUND: (Kind.NOT_FOUND, "There is nothing at this path; /openapi.json lists what there is."),
    HTTPStatus.METHOD_NOT_ALLOWED: (Kind.METHOD_NOT_ALLOWED, "The Allow header names those that it takes."),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: (Kind.REQUEST_TOO_LARGE, f"A body has at most {LONGEST_BODY} bytes."),
}


async def _idempotency_key(
    _idempotency_key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            pattern=_KEY_FORM,
            description="A random key of this request. Sent again with the same key within 24 hours, it is not done "
            "again, and the first answer is returned.",
        ),
    ] = None,
) -> None:
    """Let the document know of the header; `ApiRoute` acts on it."""


#: Goes with every POST.
IDEMPOTENT: Final = (Depends(_idempotency_key),)

#: What any route may answer.
EVERYWHERE: Final = (
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
#: And any POST besides: the first request with its key is under way; its body is too large.
POSTED: Final = (HTTPStatus.CONFLICT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


def api_router(tag: str) -> APIRouter:
    """Return a router for one subject of the API."""
    return APIRouter(
        prefix="/v1",
        route_class=ApiRoute,
        tags=[tag],
        responses={**MALFORMED, **documented(*EVERYWHERE)},
        generate_unique_id_function=lambda route: route.name,
    )
