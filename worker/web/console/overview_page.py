"""The overview: what is going on, refreshing itself. It shows no secret and changes nothing."""

from __future__ import annotations

from fastapi.responses import HTMLResponse

from worker.domain.grant import GrantState
from worker.domain.roles import Role
from worker.exposition import sandbox_counts
from worker.storage.overview import read_overview
from worker.web.console.frame import Console, TheConsole
from worker.web.page_route import page_router
from worker.web.verdict import findings, tiles

router = page_router()


@router.page("/", Role.READER)
async def overview(console: TheConsole) -> HTMLResponse:
    """Show the page."""
    return await _show(console, "overview.html")


@router.page("/overview", Role.READER)
async def overview_part(console: TheConsole) -> HTMLResponse:
    """Give the part of the page that refreshes itself."""
    return await _show(console, "overview_part.html")


async def _show(console: Console, template: str) -> HTMLResponse:
    container = console.container
    clients = console.clients
    found = await read_overview(container.engine, list(clients), only=console.person.client)
    sandbox = sandbox_counts(console.request.app.state.registry)
    return console.show(
        template,
        overview=found,
        findings=findings(found, clients, sandbox),
        tiles=tiles(found, clients),
        states=list(GrantState),
        connect=f"{container.settings.public_url.rstrip('/')}/connect",
        sandbox=sandbox,
    )
