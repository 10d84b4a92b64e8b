"""`evergrant api-tokens …`: who may use the JSON API, and for what."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated
from uuid import UUID

import typer

from worker.bootstrap import Container
from worker.commands.acting import Acting
from worker.commands.console import AsJson, fail, print_json, print_table, with_container
from worker.domain.audit import Act
from worker.domain.duration import parse_duration
from worker.domain.roles import Role
from worker.domain.secret import Secret
from worker.storage.api_tokens import ApiTokenView
from worker.usecases.api_access import LONGEST_NAME

api_tokens = typer.Typer(no_args_is_help=True, help="The tokens with which programs use the JSON API.")

#: Longer than anybody plans for, and still far from the end of the calendar.
_LONGEST_DAYS = 36_500


@api_tokens.command()
def create(
    *,
    role: Annotated[Role, typer.Option(help="What its holder may do; each role may do what the one before it may.")],
    client: Annotated[str | None, typer.Option(help="The one client that it is good for; else all of them.")] = None,
    name: Annotated[str | None, typer.Option(help="What its holder is called in lists.")] = None,
    expires: Annotated[str | None, typer.Option(help="How long it is good, such as 24h or 90d.")] = None,
) -> None:
    """Make an API token and print it. It is stored as a hash only, so this is the one time that it can be seen.

    Example: (umask 077; evergrant api-tokens create --role token --client askara-main --expires 90d > api-token)
    """
    if name is not None and not (0 < len(name) <= LONGEST_NAME and name.isprintable()):
        raise typer.BadParameter(f"a name has 1 to {LONGEST_NAME} printable characters")
    lifetime = _lifetime(expires) if expires is not None else None

    async def work(container: Container) -> tuple[UUID, Secret]:
        token_id, token = await container.api_access.create(role, client=client, name=name, lifetime=lifetime)
        acting.details["token"] = str(token_id)
        return token_id, token

    acting = Acting(act=Act.API_TOKEN_MADE, client=client, details={"name": name, "role": role.value})
    _token_id, token = with_container(work, acting)
    typer.echo(token.reveal())


@api_tokens.command(name="list")
def list_tokens(*, as_json: AsJson = False) -> None:
    """List the API tokens, without the tokens themselves.

    Example: evergrant api-tokens list
    """

    async def work(container: Container) -> Sequence[ApiTokenView]:
        return await container.api_access.tokens.list()

    views = with_container(work)
    if as_json:
        print_json(views)
        return
    print_table(
        ["ID", "NAME", "ROLE", "CLIENT", "CREATED", "EXPIRES", "LAST USED", "REVOKED"],
        [
            [
                view.id,
                view.name,
                view.role,
                view.client or "(all)",
                view.created_at,
                view.expires_at,
                view.last_used_at,
                view.revoked_at,
            ]
            for view in views
        ],
    )


@api_tokens.command()
def revoke(token_id: UUID) -> None:
    """End an API token: within two seconds no request with it is answered any more.

    Example: evergrant api-tokens revoke 018f3c5e-0000-4000-8000-000000000000
    """

    async def work(container: Container) -> bool:
        revoked = await container.api_access.tokens.revoke(token_id)
        acting.failed = not revoked
        return revoked

    acting = Acting(act=Act.API_TOKEN_REVOKED, details={"token": str(token_id)})
    if not with_container(work, acting):
        fail(f"there is no API token {token_id} that is not revoked already")
    typer.echo(f"{token_id} is revoked")


def _lifetime(text: str) -> timedelta:
    try:
        lifetime = parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if not timedelta(0) < lifetime <= timedelta(days=_LONGEST_DAYS):
        raise typer.BadParameter(f"--expires must be longer than 0s and at most {_LONGEST_DAYS}d")
    return lifetime
