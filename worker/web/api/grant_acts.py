"""What an operator does to one grant: refresh now, pause, resume, revoke."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final
from uuid import UUID

from worker.bootstrap import Container
from worker.usecases.access_token import NoSuchGrant
from worker.usecases.operate import Done, NotPossible, Revoked
from worker.web.admission import TheNotes
from worker.web.api.access import TheCaller, no_such_grant, own_grant
from worker.web.api.grants import shown
from worker.web.api.models import GrantAnswer, RevokedAnswer
from worker.web.api.problems import documented
from worker.web.api.refusals import granted, not_kept_alive
from worker.web.api.route import IDEMPOTENT, POSTED, api_router
from worker.web.dependencies import TheContainer

router = api_router("grants")

_PROBLEMS: Final = documented(HTTPStatus.NOT_FOUND, *POSTED)


@router.post("/grants/{grant_id}/refresh", dependencies=IDEMPOTENT, responses=_PROBLEMS)
async def refresh_grant(caller: TheCaller, container: TheContainer, grant_id: UUID) -> GrantAnswer:
    """Refresh a grant now, however long its access token still lives."""
    await own_grant(caller, container, grant_id)
    await granted(container, grant_id, await container.access_tokens.refresh(grant_id))
    return await shown(container, grant_id)


@router.post("/grants/{grant_id}/pause", dependencies=IDEMPOTENT, responses=_PROBLEMS)
async def pause_grant(caller: TheCaller, container: TheContainer, grant_id: UUID) -> GrantAnswer:
    """Stop refreshing a grant, until it is resumed. One that is paused already stays as it is."""
    await own_grant(caller, container, grant_id)
    return await _after(container, grant_id, await container.operations.pause(grant_id))


@router.post("/grants/{grant_id}/resume", dependencies=IDEMPOTENT, responses=_PROBLEMS)
async def resume_grant(caller: TheCaller, container: TheContainer, grant_id: UUID) -> GrantAnswer:
    """Let a paused grant go on: it is due when it would have been. One that is not paused stays as it is."""
    await own_grant(caller, container, grant_id)
    return await _after(container, grant_id, await container.operations.resume(grant_id))


@router.delete("/grants/{grant_id}", responses=documented(HTTPStatus.NOT_FOUND))
async def revoke_grant(
    caller: TheCaller, notes: TheNotes, container: TheContainer, grant_id: UUID, *, force: bool = False
) -> RevokedAnswer:
    """End a grant on purpose, here and, where it offers that, at its provider. It may be repeated.

    Until the provider has confirmed it the tokens are kept for the next try; with `force` they are erased at once.
    """
    await own_grant(caller, container, grant_id)
    if force:
        notes.details["forced"] = True
    match await container.operations.revoke(grant_id, force=force):
        case NoSuchGrant():
            raise no_such_grant(grant_id)
        case Revoked(at_provider=at_provider, erased=erased):
            return RevokedAnswer(grant=await shown(container, grant_id), at_provider=at_provider, erased=erased)


async def _after(container: Container, grant_id: UUID, result: Done | NotPossible | NoSuchGrant) -> GrantAnswer:
    match result:
        case NoSuchGrant():
            raise no_such_grant(grant_id)
        case NotPossible(state=state):
            raise not_kept_alive(grant_id, state, None)
        case Done():
            return await shown(container, grant_id)
