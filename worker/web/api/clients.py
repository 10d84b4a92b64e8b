"""`/v1/clients`: what holds a client back, and the operator's hand on it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus

from worker.bootstrap import Container
from worker.domain.roles import Caller
from worker.storage.client_figures import read_client_figures
from worker.web.admission import TheNotes
from worker.web.api.access import TheCaller, own_client
from worker.web.api.models import ClientAnswer, ClientList
from worker.web.api.problems import Kind, Problem, documented
from worker.web.api.route import IDEMPOTENT, POSTED, api_router
from worker.web.dependencies import TheContainer

router = api_router("clients")


@router.get("/clients")
async def list_clients(caller: TheCaller, container: TheContainer) -> ClientList:
    """List the clients, with what holds each back. A token that is bound to a client sees that one."""
    return ClientList(items=[found for found in await _all(container) if caller.sees(found.client)])


@router.post("/clients/{client}/pause", dependencies=IDEMPOTENT, responses=documented(HTTPStatus.NOT_FOUND, *POSTED))
async def pause_client(caller: TheCaller, container: TheContainer, client: str) -> ClientAnswer:
    """Stop refreshing a client's grants, until it is resumed."""
    return await _change(caller, container, client, container.statuses.pause)


@router.post("/clients/{client}/resume", dependencies=IDEMPOTENT, responses=documented(HTTPStatus.NOT_FOUND, *POSTED))
async def resume_client(
    caller: TheCaller, notes: TheNotes, container: TheContainer, client: str, *, deaths_are_real: bool = False
) -> ClientAnswer:
    """Take away whatever holds a client back: pause, breaker, brake, throttle. It catches up on a ramp.

    With `deaths_are_real` the brake stays off for six hours: grants that are refused die, and their owners are mailed.
    """
    if deaths_are_real:
        notes.details["deaths_are_real"] = True
    resume = partial(container.statuses.resume, deaths_are_real=deaths_are_real)
    return await _change(caller, container, client, resume)


async def _change(
    caller: Caller, container: Container, client: str, act: Callable[[str], Awaitable[bool]]
) -> ClientAnswer:
    own_client(caller, client)
    if client not in container.configuration.registry.clients:
        raise Problem(HTTPStatus.NOT_FOUND, Kind.NOT_FOUND, "There is no client of this name.")
    await act(client)
    [found] = [found for found in await _all(container) if found.client == client]
    return found


async def _all(container: Container) -> list[ClientAnswer]:
    configured = container.configuration.registry.clients
    return [
        ClientAnswer.of(found, configured[found.client].provider.name if found.client in configured else None)
        for found in await read_client_figures(container.engine, list(configured))
    ]
