"""What each route of the API needs and is written down as, and the API's door: a token shows who calls."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Final
from uuid import UUID

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from worker.bootstrap import Container
from worker.domain.audit import Act
from worker.domain.roles import Caller, Role
from worker.domain.secret import Secret
from worker.web.admission import Declared, RoleTooLowError, admit
from worker.web.api.problems import Kind, Problem

#: What each route needs. A route that does not stand here cannot be added.
NEEDED: Final[Mapping[tuple[str, str], Declared]] = {
    ("GET", "/v1/grants"): Declared(needs=Role.READER),
    ("POST", "/v1/grants"): Declared(needs=Role.OPERATOR, act=Act.GRANT_ADOPTED),
    ("GET", "/v1/grants/{grant_id}"): Declared(needs=Role.READER),
    ("PATCH", "/v1/grants/{grant_id}"): Declared(needs=Role.OPERATOR, act=Act.GRANT_CHANGED),
    ("DELETE", "/v1/grants/{grant_id}"): Declared(needs=Role.OPERATOR, act=Act.GRANT_REVOKED),
    ("GET", "/v1/grants/{grant_id}/access-token"): Declared(needs=Role.TOKEN, act=Act.ACCESS_TOKEN_GIVEN),
    ("GET", "/v1/access-token"): Declared(needs=Role.TOKEN, act=Act.ACCESS_TOKEN_GIVEN),
    ("POST", "/v1/grants/{grant_id}/refresh"): Declared(needs=Role.OPERATOR, act=Act.GRANT_REFRESHED),
    ("POST", "/v1/grants/{grant_id}/pause"): Declared(needs=Role.OPERATOR, act=Act.GRANT_PAUSED),
    ("POST", "/v1/grants/{grant_id}/resume"): Declared(needs=Role.OPERATOR, act=Act.GRANT_RESUMED),
    ("POST", "/v1/grants/{grant_id}/reconsent"): Declared(needs=Role.OPERATOR, act=Act.RECONSENT_SENT),
    ("GET", "/v1/clients"): Declared(needs=Role.READER),
    ("POST", "/v1/clients/{client}/pause"): Declared(needs=Role.OPERATOR, act=Act.CLIENT_PAUSED),
    ("POST", "/v1/clients/{client}/resume"): Declared(needs=Role.OPERATOR, act=Act.CLIENT_RESUMED),
    ("GET", "/v1/events"): Declared(needs=Role.READER),
}

_CHALLENGE: Final = 'Bearer realm="Evergrant"'
_HOW: Final = "Send `Authorization: Bearer evg_…`; `evergrant api-tokens create` makes one."


async def admit_token(request: Request, container: Container, declared: Declared) -> Caller:
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
    try:
        admit(request, caller, declared)
    except RoleTooLowError as error:
        detail = f"This needs the role {error.needed}, and this API token has {caller.role}."
        raise Problem(HTTPStatus.FORBIDDEN, Kind.FORBIDDEN, detail) from None
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


# What the document says of authentication; `admit_token` has done it by the time a dependency is asked for.
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
