"""Who may call which route: one table, and the one place that enforces it."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Final
from uuid import UUID

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from worker.bootstrap import Container
from worker.domain.roles import Caller, Role
from worker.domain.secret import Secret
from worker.web.api.problems import Kind, Problem

#: What each route needs. A route that does not stand here cannot be added.
NEEDED: Final[Mapping[tuple[str, str], Role]] = {
    ("GET", "/v1/grants"): Role.READER,
    ("POST", "/v1/grants"): Role.OPERATOR,
    ("GET", "/v1/grants/{grant_id}"): Role.READER,
    ("PATCH", "/v1/grants/{grant_id}"): Role.OPERATOR,
    ("DELETE", "/v1/grants/{grant_id}"): Role.OPERATOR,
    ("GET", "/v1/grants/{grant_id}/access-token"): Role.TOKEN,
    ("GET", "/v1/access-token"): Role.TOKEN,
    ("POST", "/v1/grants/{grant_id}/refresh"): Role.OPERATOR,
    ("POST", "/v1/grants/{grant_id}/pause"): Role.OPERATOR,
    ("POST", "/v1/grants/{grant_id}/resume"): Role.OPERATOR,
    ("POST", "/v1/grants/{grant_id}/reconsent"): Role.OPERATOR,
    ("GET", "/v1/clients"): Role.READER,
    ("POST", "/v1/clients/{client}/pause"): Role.OPERATOR,
    ("POST", "/v1/clients/{client}/resume"): Role.OPERATOR,
    ("GET", "/v1/events"): Role.READER,
}

_CHALLENGE: Final = 'Bearer realm="Evergrant"'
_HOW: Final = "Send `Authorization: Bearer evg_…`; `evergrant api-tokens create` makes one."


async def admit(request: Request, container: Container, needed: Role) -> Caller:
    """Return who calls, if that is somebody whose role is enough.

    Raises:
        Problem: 401 without a good API token (RFC 6750 section 3), 403 where its role is not enough.

    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Problem(HTTPStatus.UNAUTHORIZED, Kind.UNAUTHORIZED, _HOW, headers={"WWW-Authenticate": _CHALLENGE})
    caller = await container.api_access.recognize(Secret(token.strip()))
    if caller is None:
        challenge = f'{_CHALLENGE}, error="invalid_token"'
        detail = f"This API token is unknown, expired or revoked. {_HOW}"
        raise Problem(HTTPStatus.UNAUTHORIZED, Kind.UNAUTHORIZED, detail, headers={"WWW-Authenticate": challenge})
    if not caller.may(needed):
        detail = f"This needs the role {needed}, and this API token has {caller.role}."
        raise Problem(HTTPStatus.FORBIDDEN, Kind.FORBIDDEN, detail)
    request.state.caller = caller
    return caller


def own_client(caller: Caller, client: str) -> str:
    """Return a client's name, if it is the caller's business.

    Raises:
        Problem: 403 where the caller's API token is bound to another client.

    """
    if not caller.sees(client):
        raise Problem(HTTPStatus.FORBIDDEN, Kind.FORBIDDEN, f"This API token is bound to the client {caller.client}.")
    return client


async def own_grant(caller: Caller, container: Container, grant_id: UUID) -> UUID:
    """Return a grant's id, if it is the caller's business; another client's grant is not even there.

    Raises:
        Problem: 404.

    """
    if caller.client is not None:
        view = await container.grants.show(grant_id)
        if view is None or not caller.sees(view.client):
            raise no_such_grant(grant_id)
    return grant_id


def no_such_grant(grant_id: UUID) -> Problem:
    """Return the problem of a grant that is not there."""
    return Problem(HTTPStatus.NOT_FOUND, Kind.NOT_FOUND, f"There is no grant {grant_id}.")


# What the document says of authentication; `admit` has done it by the time a dependency is asked for.
_bearer = HTTPBearer(
    scheme_name="apiToken",
    bearerFormat="evg_…",
    description="An API token: `evergrant api-tokens create`.",
    auto_error=False,
)


async def _caller(request: Request, _credentials: Annotated[object, Depends(_bearer)]) -> Caller:
    caller: Caller = request.state.caller
    return caller


TheCaller = Annotated[Caller, Depends(_caller)]
