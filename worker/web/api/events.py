"""`/v1/events`: what happened, newest last, for those who follow it."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Query

from worker.storage.event_log import read_events
from worker.usecases.offer import Name
from worker.web.api.access import TheCaller, own_client
from worker.web.api.models import EventAnswer, EventPage
from worker.web.api.route import api_router
from worker.web.api.values import DEFAULT_PAGE, EventCursor, PageLength
from worker.web.dependencies import TheContainer

router = api_router("events")


@router.get("/events")
async def list_events(
    caller: TheCaller,
    container: TheContainer,
    *,
    client: Annotated[Name | None, Query()] = None,
    grant: Annotated[UUID | None, Query()] = None,
    cursor: Annotated[EventCursor, Query()] = "0",
    limit: Annotated[PageLength, Query()] = DEFAULT_PAGE,
) -> EventPage:
    """Read what happened after a cursor, newest last. Going on with `next` misses nothing and repeats nothing."""
    wanted = own_client(caller, client) if client is not None else caller.client
    page = await read_events(container.engine, after=int(cursor), limit=limit, client=wanted, grant_id=grant)
    return EventPage(items=[EventAnswer.of(event) for event in page.events], next=str(page.after))
