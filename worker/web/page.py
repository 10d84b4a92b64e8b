"""The first page: what is going on, refreshing itself. It shows no secret and changes nothing.

Until operators can sign in, it is for this machine only.
"""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from worker.bootstrap import Container
from worker.domain.grant import GrantState
from worker.domain.loopback import is_loopback
from worker.metrics import sandbox_counts
from worker.storage.away import AWAY
from worker.storage.overview import read_overview
from worker.web.dependencies import TheContainer, ThePages
from worker.web.pages import Pages
from worker.web.verdict import findings, tiles

router = APIRouter()

#: Seconds after which a browser asks again for the whole page, while the database does not answer.
_ASK_AGAIN: Final = 5


@router.get("/", response_model=None)
async def overview(request: Request, container: TheContainer, pages: ThePages) -> HTMLResponse:
    """Show the page."""
    return await _show(request, container, pages, "overview.html")


@router.get("/overview", response_model=None, include_in_schema=False)
async def overview_part(request: Request, container: TheContainer, pages: ThePages) -> HTMLResponse:
    """Give the part of the page that refreshes itself."""
    return await _show(request, container, pages, "overview_part.html")


async def _show(request: Request, container: Container, pages: Pages, template: str) -> HTMLResponse:
    if not _is_local(request):
        text = "This page can be seen from the machine it runs on, under http://127.0.0.1, until operators can sign in."
        return pages.message(403, "For this machine only", text)
    clients = container.configuration.registry.clients
    try:
        found = await read_overview(container.engine, list(clients))
    except AWAY:
        text = "No refresh token is spent meanwhile. See the logs and /readyz; this page asks again by itself."
        answer = pages.message(503, "The database does not answer", text)
        answer.headers["Refresh"] = str(_ASK_AGAIN)
        return answer
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
    )


def _is_local(request: Request) -> bool:
    # The name must be this machine's too, or a page elsewhere could read this one by pointing its own name here.
    forwarded = any(header in request.headers for header in ("forwarded", "x-forwarded-for", "x-real-ip"))
    peer = request.client.host if request.client is not None else None
    return is_loopback(peer) and is_loopback(request.url.hostname) and not forwarded
