"""The page "Webhooks": each endpoint with what waits and what is dead; pause, resume, try, send again."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Final

from fastapi import Query
from fastapi.responses import HTMLResponse, Response

from worker.domain.audit import Act
from worker.domain.roles import Role
from worker.domain.webhook import Delivered
from worker.web.console.frame import Console, TheConsole, go_to
from worker.web.console.said import read_said
from worker.web.page_route import Refused, TheNotes, not_there, page_router
from worker.webhooks.endpoint import Endpoint

router = page_router()

#: Dead deliveries that are shown; “Send again” means all of them.
SHOWN: Final = 100


@router.page("/webhooks", Role.READER)
async def show_webhooks(
    console: TheConsole,
    *,
    said: Annotated[str | None, Query()] = None,
    count: Annotated[int | None, Query()] = None,
) -> HTMLResponse:
    """Show the endpoints, and what they have not taken."""
    _for_all_clients(console)
    hooks = console.container.webhooks
    statuses = await hooks.statuses()
    return console.show(
        "webhooks.html",
        statuses=statuses,
        configured=hooks.endpoints,
        dead=await hooks.overview.dead([status.name for status in statuses], SHOWN),
        shown=SHOWN,
        now=await console.container.grants.now(),
        said=read_said(said, count=count),
    )


@router.act("/webhooks/{endpoint}/pause", Role.OPERATOR, Act.WEBHOOK_PAUSED)
async def pause(console: TheConsole, notes: TheNotes, endpoint: str) -> Response:
    """Send nothing to an endpoint until it is resumed."""
    found = await _known(console, notes, endpoint)
    changed = await console.container.webhooks.overview.pause(found.name)
    return go_to("/webhooks", {"said": "endpoint_paused" if changed else "unchanged"})


@router.act("/webhooks/{endpoint}/resume", Role.OPERATOR, Act.WEBHOOK_RESUMED)
async def resume(console: TheConsole, notes: TheNotes, endpoint: str) -> Response:
    """Let an endpoint have its events again."""
    found = await _known(console, notes, endpoint)
    changed = await console.container.webhooks.overview.resume(found.name)
    return go_to("/webhooks", {"said": "endpoint_resumed" if changed else "unchanged"})


@router.act("/webhooks/{endpoint}/test", Role.OPERATOR, Act.WEBHOOK_TESTED)
async def test(console: TheConsole, notes: TheNotes, endpoint: str) -> Response:
    """Send an endpoint a signed message behind which no event stands."""
    found = await _known(console, notes, endpoint)
    sent = await console.container.webhooks.test(found)
    notes.failed = not isinstance(sent.attempt, Delivered)
    return go_to("/webhooks", {"said": "not_delivered" if notes.failed else "delivered"})


@router.act("/webhooks/{endpoint}/replay", Role.OPERATOR, Act.WEBHOOK_REPLAYED)
async def replay(console: TheConsole, notes: TheNotes, endpoint: str) -> Response:
    """Send what is dead for an endpoint once more."""
    found = await _known(console, notes, endpoint)
    count = await console.container.webhooks.overview.replay_dead(found.name)
    notes.details["events"] = count
    return go_to("/webhooks", {"said": "replayed", "count": count} if count else {"said": "nothing_dead"})


def _for_all_clients(console: Console) -> None:
    if console.person.client is not None:
        text = "Webhooks are about all clients, and your role is for one of them."
        raise Refused(HTTPStatus.FORBIDDEN, "You may not see this", text)


async def _known(console: Console, notes: TheNotes, endpoint: str) -> Endpoint:
    _for_all_clients(console)
    notes.details["endpoint"] = endpoint
    found = console.container.webhooks.endpoints.get(endpoint)
    if found is None:
        raise not_there("webhook endpoint")
    await console.container.webhooks.due()  # an endpoint that nothing was ever sent to is known from here on
    return found
