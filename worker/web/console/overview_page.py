"""The overview: what is going on, refreshing itself. It shows no secret and changes nothing."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from fastapi.responses import HTMLResponse

from worker.domain.grant import GrantState
from worker.domain.roles import Role
from worker.exposition import sandbox_counts
from worker.storage.overview import read_overview
from worker.web.console.charts import Span
from worker.web.console.frame import Console, TheConsole
from worker.web.console.read_charts import read_charts
from worker.web.page_route import page_router
from worker.web.verdict import findings, tiles

router = page_router()


@router.page("/", Role.READER)
async def overview(console: TheConsole, *, span: Annotated[Span, Query()] = Span.DAY) -> HTMLResponse:
    """Show the page."""
    return await _show(console, "overview.html", span)


@router.page("/overview", Role.READER)
async def overview_part(console: TheConsole, *, span: Annotated[Span, Query()] = Span.DAY) -> HTMLResponse:
    """Give the part of the page that refreshes itself."""
    return await _show(console, "overview_part.html", span)


async def _show(console: Console, template: str, span: Span) -> HTMLResponse:
    container = console.container
    clients = console.clients
    found = await read_overview(container.engine, list(clients), only=console.person.client)
    sandbox = sandbox_counts(console.request.app.state.registry)
    return console.show(
        template,
        overview=found,
        findings=findings(found, clients, sandbox, sends=container.mails.requests.sends),
        tiles=tiles(found, clients),
        states=list(GrantState),
        connect=f"{container.settings.public_url.rstrip('/')}/connect",
        sandbox=sandbox,
        **await read_charts(container.engine, span, found.now, client=console.person.client),
    )
