"""The first page: what is going on, refreshing itself. It shows no secret and changes nothing."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import HTMLResponse

from worker.bootstrap import Container
from worker.domain.grant import GrantState
from worker.domain.roles import Role
from worker.exposition import sandbox_counts
from worker.storage.overview import read_overview
from worker.web.dependencies import TheContainer, ThePages
from worker.web.page_route import PersonHere, ThePerson, page_router
from worker.web.pages import Pages
from worker.web.verdict import findings, tiles

router = page_router()


@router.page("/", Role.READER)
async def overview(request: Request, person: ThePerson, container: TheContainer, pages: ThePages) -> HTMLResponse:
    """Show the page."""
    return await _show(request, person, container, pages, "overview.html")


@router.page("/overview", Role.READER)
async def overview_part(request: Request, person: ThePerson, container: TheContainer, pages: ThePages) -> HTMLResponse:
    """Give the part of the page that refreshes itself."""
    return await _show(request, person, container, pages, "overview_part.html")


async def _show(
    request: Request, person: PersonHere, container: Container, pages: Pages, template: str
) -> HTMLResponse:
    clients = {name: client for name, client in container.configuration.registry.clients.items() if person.sees(name)}
    found = await read_overview(container.engine, list(clients), only=person.client)
    sandbox = sandbox_counts(request.app.state.registry)
    return pages.render(
        template,
        overview=found,
        findings=findings(found, clients, sandbox),
        tiles=tiles(found, clients),
        states=list(GrantState),
        clients=clients,
        connect=f"{container.settings.public_url.rstrip('/')}/connect",
        sandbox=sandbox,
        version=request.app.version,
        person=person,
    )
