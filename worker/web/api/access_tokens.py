"""A fresh access token at any moment: by the grant's id, or by client and subject."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Final
from uuid import UUID

from fastapi import Query

from worker.bootstrap import Container
from worker.usecases.offer import Name
from worker.web.api.access import TheCaller, own_client, own_grant
from worker.web.api.models import AccessTokenAnswer
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


@router.get("/grants/{grant_id}/access-token", responses=_PROBLEMS)
async def access_token_of_grant(
    caller: TheCaller, container: TheContainer, grant_id: UUID, min_ttl: MinTtl = _DEFAULT_TTL
) -> AccessTokenAnswer:
    """Get an access token of a grant. It is refreshed first where the stored one does not live long enough."""
    return await _fresh(container, await own_grant(caller, container, grant_id), min_ttl)


@router.get("/access-token", responses=_PROBLEMS)
async def access_token_of_subject(
    caller: TheCaller,
    container: TheContainer,
    client: Annotated[Name, Query()],
    subject: Annotated[Name, Query()],
    min_ttl: MinTtl = _DEFAULT_TTL,
) -> AccessTokenAnswer:
    """Get an access token of a client's grant for a subject: the same as by the grant's id."""
    found = await container.grants.find(own_client(caller, client), subject)
    if found is None:
        detail = f"The client {client} has no grant for this subject."
        raise Problem(HTTPStatus.NOT_FOUND, Kind.NOT_FOUND, detail)
    return await _fresh(container, found.id, min_ttl)


async def _fresh(container: Container, grant_id: UUID, min_ttl: int) -> AccessTokenAnswer:
    result = await container.access_tokens.fresh(grant_id, seconds(min_ttl))
    return AccessTokenAnswer.of(grant_id, await granted(container, grant_id, result))
