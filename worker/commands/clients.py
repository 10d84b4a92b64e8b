"""`evergrant clients …`: what holds a client back, and the operator's hand on it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Annotated

import typer

from worker.bootstrap import Container
from worker.commands.acting import Acting
from worker.commands.console import AsJson, print_json, print_table, with_container
from worker.domain.audit import Act
from worker.domain.grant import GrantState
from worker.storage.client_figures import ClientFigures, read_client_figures

clients = typer.Typer(no_args_is_help=True, help="The clients: what holds them back, pause and resume.")

ClientName = Annotated[str, typer.Argument(help="The client's name in the configuration.")]


@clients.command(name="list")
def list_clients(*, as_json: AsJson = False) -> None:
    """List the clients, with what holds each back.

    Example: evergrant clients list
    """

    async def work(container: Container) -> list[ClientFigures]:
        return await read_client_figures(container.engine, list(container.configuration.registry.clients))

    figures = with_container(work)
    if as_json:
        print_json(figures)
        return
    print_table(
        ["CLIENT", "GRANTS", "ACTIVE", "NEED OWNER", "OVERDUE", "HELD BACK BY"],
        [
            [
                found.client,
                found.total,
                found.states.get(GrantState.ACTIVE, 0),
                found.states.get(GrantState.RECONSENT_REQUIRED, 0),
                found.overdue,
                _held_back_by(found),
            ]
            for found in figures
        ],
    )


@clients.command()
def pause(client: ClientName) -> None:
    """Stop refreshing a client's grants, until `clients resume`.

    Example: evergrant clients pause askara-main
    """
    changed = _change(client, Act.CLIENT_PAUSED, lambda container: container.statuses.pause(client))
    typer.echo(f"{client} is paused" if changed else f"{client} was paused already")


@clients.command()
def resume(
    client: ClientName,
    *,
    deaths_are_real: Annotated[
        bool,
        typer.Option("--deaths-are-real", help="Keep the brake off for six hours: grants die, and owners are mailed."),
    ] = False,
) -> None:
    """Take away whatever holds a client back: pause, breaker, brake, throttle. It catches up on a ramp.

    A brake that was released so goes on again if abnormally many grants still die. Where that is as it should be, for
    their consents have ended, say --deaths-are-real: mails that have gone out cannot be called back.

    Example: evergrant clients resume askara-main
    """
    changed = _change(
        client,
        Act.CLIENT_RESUMED,
        lambda container: container.statuses.resume(client, deaths_are_real=deaths_are_real),
        {"deaths_are_real": True} if deaths_are_real else {},
    )
    typer.echo(f"{client} is refreshed again" if changed else f"nothing held {client} back")


def _change(
    client: str,
    act: Act,
    change: Callable[[Container], Awaitable[bool]],
    details: Mapping[str, object] = MappingProxyType({}),
) -> bool:
    async def work(container: Container) -> bool:
        container.configuration.registry.client(client)
        return await change(container)

    return with_container(work, Acting(act=act, client=client, details=dict(details)))


def _held_back_by(found: ClientFigures) -> str | None:
    if found.breaker_opened_at is not None:
        return f"breaker: {found.breaker_reason}"
    if found.paused_by_operator:
        return "an operator"
    if found.braked_at is not None:
        return "brake (deaths count as suspicions)"
    return "throttled by the provider" if found.throttled_until is not None else None
