"""`evergrant console link`: a link that signs somebody in to the console, for whoever can run commands here."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Final

import typer

from worker.bootstrap import Container
from worker.commands.acting import Acting, user_here, written_down
from worker.commands.console import with_container
from worker.domain.audit import Act
from worker.domain.duration import parse_duration
from worker.domain.roles import Role
from worker.domain.secret import Secret
from worker.usecases.sessions import LINK_LIFETIME

console = typer.Typer(no_args_is_help=True, help="The operator console in a browser.")

#: Long enough to send it to somebody, and short enough for what lies in a terminal's history.
_LONGEST: Final = timedelta(days=1)


@console.callback()
def _group() -> None:
    """Keep `link` a command of its own: Typer would otherwise merge a group's only command into it."""


@console.command()
def link(
    *,
    role: Annotated[Role, typer.Option(help="What whoever opens it may do.")] = Role.ADMIN,
    client: Annotated[str | None, typer.Option(help="The one client that they see; else all of them.")] = None,
    name: Annotated[str | None, typer.Option(help="What they are called; else like the user here.")] = None,
    expires: Annotated[str, typer.Option(help="How long it is good, such as 10m; at most 1d.")] = "1h",
) -> None:
    """Print a link that signs somebody in to the console, once.

    Example: evergrant console link --role operator --name ada
    """
    try:
        lifetime = parse_duration(expires)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if not timedelta(0) < lifetime <= _LONGEST:
        raise typer.BadParameter("--expires must be longer than 0s and at most 1d")
    printed = with_container(
        lambda container: sign_in_link(container, name=name, role=role, client=client, lifetime=lifetime)
    )
    typer.echo(printed.reveal())


async def sign_in_link(
    container: Container,
    *,
    name: str | None = None,
    role: Role = Role.ADMIN,
    client: str | None = None,
    lifetime: timedelta = LINK_LIFETIME,
) -> Secret:
    """Make a link that signs somebody in, and return its address; it is written down who made it.

    Args:
        container: of this process.
        name: what whoever opens it is called; None: like the user of this process.
        role: what they may do.
        client: the one client that they see; None: all.
        lifetime: how long it is good.

    """
    called = name or user_here()
    acting = Acting(act=Act.SIGN_IN_LINK_MADE, client=client, details={"for": called, "role": role.value})
    part = await written_down(
        container,
        acting,
        lambda container: container.sessions.make_link(name=called, role=role, client=client, lifetime=lifetime),
    )
    return Secret(f"{container.settings.public_url.rstrip('/')}/sign-in/link/{part.reveal()}")
