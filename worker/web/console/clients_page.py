"""The pages "Clients" and of one client: what holds it back, its facts and limits, and the operator's hand on it."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Query
from fastapi.responses import HTMLResponse, Response
from sqlalchemy import text

from worker.domain.audit import Act
from worker.domain.grant import GrantState
from worker.domain.roles import Role
from worker.storage.client_figures import ClientFigures, read_client_figures
from worker.usecases.try_client import Tried, try_client
from worker.web.console.charts import Span
from worker.web.console.facts import provider_facts, registration_facts
from worker.web.console.frame import Console, TheConsole, go_to
from worker.web.console.read_charts import read_charts
from worker.web.console.said import read_said
from worker.web.page_route import TheNotes, not_there, page_router

router = page_router()


@router.page("/clients", Role.READER)
async def list_clients(console: TheConsole, *, said: Annotated[str | None, Query()] = None) -> HTMLResponse:
    """Show all clients."""
    return console.show("clients.html", **await _read(console), said=read_said(said))


@router.page("/clients/{client}", Role.READER)
async def show_client(
    console: TheConsole,
    client: str,
    *,
    span: Annotated[Span, Query()] = Span.DAY,
    said: Annotated[str | None, Query()] = None,
    why: Annotated[str | None, Query()] = None,
) -> HTMLResponse:
    """Show one client."""
    read = await _read(console)
    found = next((figures for figures in read["figures"] if figures.client == client), None)
    if found is None:
        raise not_there("client")
    configured = console.clients.get(client)
    return console.show(
        "client.html",
        **read,
        found=found,
        client=configured,
        **await read_charts(console.container.engine, span, read["now"], client=client),
        registration=registration_facts(configured) if configured is not None else (),
        facts=provider_facts(configured) if configured is not None else (),
        said=read_said(said, why),
    )


@router.act("/clients/{client}/pause", Role.OPERATOR, Act.CLIENT_PAUSED)
async def pause(console: TheConsole, client: str) -> Response:
    """Stop refreshing a client's grants, until it is resumed."""
    changed = await console.container.statuses.pause(_own(console, client))
    return _back(client, "client_paused" if changed else "unchanged")


@router.act("/clients/{client}/resume", Role.OPERATOR, Act.CLIENT_RESUMED)
async def resume(console: TheConsole, notes: TheNotes, client: str, *, deaths_are_real: bool = False) -> Response:
    """Take away whatever holds a client back; on an operator's word, its brake for hours."""
    if deaths_are_real:
        notes.details["deaths_are_real"] = True
    changed = await console.container.statuses.resume(_own(console, client), deaths_are_real=deaths_are_real)
    return _back(client, "client_resumed" if changed else "unchanged")


@router.act("/clients/{client}/test", Role.OPERATOR, Act.CLIENT_TESTED)
async def test(console: TheConsole, notes: TheNotes, client: str) -> Response:
    """Try the connection with a made-up refresh token: no grant is touched."""
    configured = console.clients[_own(console, client)]
    tried, why = await try_client(console.container.rotation.token_endpoint, configured)
    notes.failed = tried is not Tried.GOOD
    notes.details["reason"] = why.value
    return _back(client, f"tried_{tried}", why.value)


def _own(console: Console, client: str) -> str:
    if client not in console.clients:
        raise not_there("client")
    return client


def _back(client: str, said: str, why: str | None = None) -> Response:
    return go_to(f"/clients/{quote(client, safe='')}", {"said": said, "why": why})


async def _read(console: Console) -> dict[str, Any]:
    engine = console.container.engine
    figures: list[ClientFigures] = [
        found for found in await read_client_figures(engine, list(console.clients)) if console.person.sees(found.client)
    ]
    async with engine.connect() as connection:
        now = (await connection.execute(text("SELECT now()"))).scalar_one()
    return {"figures": figures, "now": now, "states": list(GrantState)}
