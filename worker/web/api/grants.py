"""`/v1/grants`: adopt, list, read and change grants."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import Query, Response
from pydantic import BaseModel, ConfigDict, Field

from worker.bootstrap import Container
from worker.domain.adoption import Verdict
from worker.domain.grant import GrantState
from worker.usecases.adopt import Refused
from worker.usecases.offer import Account, Email, Name, Offer
from worker.web.admission import TheNotes
from worker.web.api.access import TheCaller, no_such_grant, own_client, own_grant
from worker.web.api.models import GrantAnswer, GrantPage
from worker.web.api.problems import Kind, Problem, documented, request_refused
from worker.web.api.route import IDEMPOTENT, POSTED, api_router
from worker.web.api.values import (
    DEFAULT_PAGE,
    Cursor,
    PageLength,
    read_cursor,
    write_cursor,
)
from worker.web.dependencies import TheContainer

router = api_router("grants")


class Change(BaseModel):
    """What of a grant can be changed. What is left out stays; null takes it away (RFC 7396)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    email: Email | None = None
    account: Annotated[
        Account | None,
        Field(
            description="The owner's id at the provider. A consent of another account is refused; null lets the next "
            "consent bring any."
        ),
    ] = None


@router.post(
    "/grants",
    status_code=HTTPStatus.CREATED,
    dependencies=IDEMPOTENT,
    responses={
        HTTPStatus.CREATED.value: {"headers": {"Location": {"schema": {"type": "string"}, "required": True}}},
        **documented(*POSTED),
    },
)
async def adopt_grant(
    caller: TheCaller, notes: TheNotes, container: TheContainer, offer: Offer, response: Response
) -> GrantAnswer:
    """Take over a grant: it is kept alive from now on. Without an access token and its lifetime it is due at once."""
    notes.client = offer.client
    own_client(caller, offer.client)
    taken = await container.adoption.take(offer)
    if isinstance(taken, Refused):
        raise request_refused((complaint.field, complaint.text) for complaint in taken.complaints)
    grant_id = taken.grant_id
    notes.grant_id = grant_id if taken.verdict is Verdict.CREATE else None
    match taken.verdict:
        case Verdict.CREATE:
            pass
        case Verdict.TAKEN:
            detail = "Another grant was adopted with this refresh token, and it cannot be kept alive twice."
            # Which one it is stays hidden from a token that is bound to a client: it may be another's.
            about = {"grant": str(grant_id)} if caller.client is None else None
            raise Problem(HTTPStatus.CONFLICT, Kind.GRANT_EXISTS, detail, about=about)
        case Verdict.SAME | Verdict.OTHER_TOKEN | Verdict.REPLACE | Verdict.NOT_NEWER | Verdict.OTHER_ACCOUNT:
            detail = "Adopting never replaces a grant: nothing was changed."
            raise Problem(HTTPStatus.CONFLICT, Kind.GRANT_EXISTS, detail, about={"grant": str(grant_id)})
    response.headers["Location"] = f"/v1/grants/{grant_id}"
    return await shown(container, grant_id)


@router.get("/grants")
async def list_grants(
    caller: TheCaller,
    container: TheContainer,
    *,
    client: Annotated[Name | None, Query()] = None,
    state: Annotated[GrantState | None, Query()] = None,
    cursor: Annotated[Cursor | None, Query()] = None,
    limit: Annotated[PageLength, Query()] = DEFAULT_PAGE,
) -> GrantPage:
    """List grants in the order of client and subject."""
    wanted = own_client(caller, client) if client is not None else caller.client
    after = read_cursor(cursor) if cursor is not None else None
    found = await container.grants.list(client=wanted, state=state, after=after, limit=limit + 1)
    page = found[:limit]
    following = write_cursor(page[-1].client, page[-1].subject) if len(found) > limit else None
    return GrantPage(items=[GrantAnswer.of(view) for view in page], next=following)


@router.get("/grants/{grant_id}", responses=documented(HTTPStatus.NOT_FOUND))
async def read_grant(caller: TheCaller, container: TheContainer, grant_id: UUID) -> GrantAnswer:
    """Read one grant, without its tokens."""
    return await shown(container, await own_grant(caller, container, grant_id))


@router.patch("/grants/{grant_id}", responses=documented(HTTPStatus.NOT_FOUND, HTTPStatus.REQUEST_ENTITY_TOO_LARGE))
async def change_grant(
    caller: TheCaller, notes: TheNotes, container: TheContainer, grant_id: UUID, change: Change
) -> GrantAnswer:
    """Change where a grant's owner can be reached, or which account its next consent must be for."""
    notes.details["changed"] = sorted(change.model_fields_set)
    await own_grant(caller, container, grant_id)
    if "email" in change.model_fields_set:
        await container.operations.acts.set_email(grant_id, change.email)
    if "account" in change.model_fields_set:
        await container.operations.acts.set_account(grant_id, change.account)
    return await shown(container, grant_id)


async def shown(container: Container, grant_id: UUID) -> GrantAnswer:
    """Return a grant as it stands now.

    Raises:
        Problem: 404.

    """
    view = await container.grants.show(grant_id)
    if view is None:
        raise no_such_grant(grant_id)
    return GrantAnswer.of(view)
