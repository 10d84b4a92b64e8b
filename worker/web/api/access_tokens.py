"""A fresh access token at any moment: by the grant's id, or by client and subject."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Final
from uuid import UUID

from fastapi import Query, Response
from fastapi.responses import JSONResponse

from worker.bootstrap import Container
from worker.storage.held_tokens import HeldToken
from worker.usecases.offer import Name
from worker.web.admission import TheNotes
from worker.web.api.access import TheCaller, no_such_grant, own_client
from worker.web.api.models import AccessTokenAnswer, access_token_answer
from worker.web.api.problems import Kind, Problem, documented
from worker.web.api.refusals import granted
from worker.web.api.route import api_router
from worker.web.api.values import Seconds, seconds
from worker.web.dependencies import TheContainer

router = api_router("access tokens")

#: Long enough for the request that the token is wanted for.
_DEFAULT_TTL: Final = 60

MinTtl = Annotated[Seconds, Query(description="Seconds that the token must still be valid.")]
_PROBLEMS: Final = documented(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)


@router.get("/grants/{grant_id}/access-token", response_model=AccessTokenAnswer, responses=_PROBLEMS)
async def access_token_of_grant(
    caller: TheCaller, container: TheContainer, grant_id: UUID, min_ttl: MinTtl = _DEFAULT_TTL
) -> Response:
    """Get an access token of a grant. It is refreshed first where the stored one does not live long enough."""
    held = await container.held_tokens.of_grant(grant_id)
    if held is None or not caller.sees(held.client):  # another client's grant is not even there
        raise no_such_grant(grant_id)
    return await _fresh(container, held, min_ttl)


@router.get("/access-token", response_model=AccessTokenAnswer, responses=_PROBLEMS)
async def access_token_of_subject(
    caller: TheCaller,
    notes: TheNotes,
    container: TheContainer,
    *,
    client: Annotated[Name, Query()],
    subject: Annotated[Name, Query()],
    min_ttl: MinTtl = _DEFAULT_TTL,
) -> Response:
    """Get an access token of a client's grant for a subject: the same as by the grant's id."""
    notes.client = client
    held = await container.held_tokens.of_subject(own_client(caller, client), subject)
    if held is None:
        detail = f"The client {client} has no grant for this subject."
        raise Problem(HTTPStatus.NOT_FOUND, Kind.NOT_FOUND, detail)
    notes.grant_id = held.grant_id
    return await _fresh(container, held, min_ttl)


async def _fresh(container: Container, held: HeldToken, min_ttl: int) -> Response:
    result = await container.access_tokens.fresh_of(held, seconds(min_ttl))
    # An answer that is whole already: FastAPI would validate the model once more, for a fifth of the request's time.
    return JSONResponse(access_token_answer(held.grant_id, await granted(container, held.grant_id, result)))
