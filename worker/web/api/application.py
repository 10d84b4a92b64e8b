"""The API's place in the web application: its routes, its document, and problems for whatever else is under /v1."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exception_handlers import http_exception_handler
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match

from worker.web.api import access_tokens, clients, events, grant_acts, grants, reconsent
from worker.web.api.problems import SCHEMA
from worker.web.api.route import ApiRoute, as_problem
from worker.web.page_route import public_router

PREFIX: Final = "/v1"
_ROUTERS: Final = (
    grants.router,
    grant_acts.router,
    reconsent.router,
    access_tokens.router,
    clients.router,
    events.router,
)
_ABOUT: Final = (
    "Adopts OAuth 2.0 grants, keeps them alive, and gives out access tokens that are fresh. "
    "Errors are problem documents (RFC 9457). A POST takes an Idempotency-Key."
)


def api_routes() -> list[ApiRoute]:
    """Return all routes of the API."""
    return [route for router in _ROUTERS for route in router.routes if isinstance(route, ApiRoute)]


def add_api(app: FastAPI) -> None:
    """Add the API and `/openapi.json` to the application."""
    # As they are, complete since their import: `include_router` would build each anew at the first request.
    app.router.routes.extend(api_routes())
    document = _document(app.version.removeprefix("Evergrant/"))

    public = public_router()

    @public.get("/openapi.json", include_in_schema=False)
    async def openapi() -> JSONResponse:
        return JSONResponse(document)

    app.router.routes.extend(public.routes)
    app.add_exception_handler(HTTPException, _refuse)


def _document(version: str) -> dict[str, Any]:
    document = get_openapi(title="Evergrant", version=version, description=_ABOUT, routes=api_routes())
    schemas = document["components"]["schemas"]
    schemas["Problem"] = dict(SCHEMA)
    for unused in ("HTTPValidationError", "ValidationError"):  # FastAPI's own, which nothing refers to
        schemas.pop(unused, None)
    return document


async def _refuse(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    path = request.url.path
    if path != PREFIX and not path.startswith(f"{PREFIX}/"):
        return await http_exception_handler(request, error)
    methods = sorted({method for route in api_routes() for method in _taken(route, request)})
    if methods:  # FastAPI names those of one route, and a path may have several
        error = HTTPException(error.status_code, error.detail, {**(error.headers or {}), "Allow": ", ".join(methods)})
    return as_problem(error).answer()


def _taken(route: ApiRoute, request: Request) -> set[str]:
    found, _scope = route.matches(request.scope)
    return set(route.methods or ()) if found is not Match.NONE else set()
