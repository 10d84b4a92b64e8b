"""`evergrant subjects …`: what is stored about one person, to hand it out or to erase it."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import typer

from worker.bootstrap import Container
from worker.commands.acting import Acting
from worker.commands.console import fail, print_json, with_container
from worker.domain.audit import Act
from worker.storage.subjects import Subjects
from worker.usecases.operate import AtProvider, Revoked

subjects = typer.Typer(no_args_is_help=True, help="What is stored about one subject, to hand out or to erase.")

Subject = Annotated[str, typer.Argument(help="Your own name for the owner.")]
OfClient = Annotated[str | None, typer.Option("--client", help="Of this client alone; else of all.")]


@subjects.command()
def export(subject: Subject, *, client: OfClient = None) -> None:
    """Write everything that is stored about a subject as JSON, but for tokens.

    Example: evergrant subjects export customer-42
    """

    async def work(container: Container) -> dict[str, Any]:
        stored = Subjects(container.engine)
        return await stored.export([client] if client else await stored.clients(), subject)

    print_json(with_container(work, Acting(act=Act.SUBJECT_EXPORTED, client=client)))


@subjects.command()
def erase(
    subject: Subject,
    *,
    client: OfClient = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this it says what would be erased.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Erase even what its provider has not confirmed to have ended.")
    ] = False,
) -> None:
    """End a subject's grants here and at their providers, and erase all that is stored about them.

    What a provider does not confirm to have ended stays, for its token is needed to ask again: repeat later.
    The audit log keeps its entries for as long as it is kept. Safe to repeat, after a crash too.

    Example: evergrant subjects erase customer-42 --yes
    """

    async def work(container: Container) -> tuple[list[str], list[str]]:
        stored = Subjects(container.engine)
        clients = [client] if client else await stored.clients()
        done, failed = [], []
        for grant in await stored.grants(clients, subject):
            named = f"grant {grant['id']} of {grant['client']}"
            if not yes:
                done.append(f"{named} would be revoked and erased")
                continue
            left = await _erase(container, stored, grant["id"], force=force)
            if left is None:
                done.append(f"{named} is erased")
            else:
                failed.append(f"{named} {left}")
        rest = await stored.erase_the_rest(clients, subject) if yes else 0
        if rest:
            done.append(f"{rest} rows that belong to no grant are erased")
        return done, failed

    done, failed = with_container(work, Acting(act=Act.SUBJECT_ERASED, client=client) if yes else None)
    for line in done:
        typer.echo(line)
    if failed:
        fail("; ".join(failed))
    if not done:
        typer.echo(f"nothing is stored about {subject}")
    elif not yes:
        typer.echo("nothing is erased yet: say --yes")


async def _erase(container: Container, stored: Subjects, grant_id: UUID, *, force: bool) -> str | None:
    """End a grant and erase it; return why it is still there, None where it is not."""
    result = await container.operations.revoke(grant_id)
    if isinstance(result, Revoked):
        match result.at_provider:
            case AtProvider.CONSENTED_AGAIN:
                return "was consented to again at this moment: repeat"
            case AtProvider.NOT_CONFIRMED if not force:
                # Its refresh token is what the next try needs.
                return (
                    "has ended here, and its provider has not confirmed the end of it: repeat later, "
                    "or erase it anyway with --force"
                )
            case AtProvider.NOT_CONFIRMED | AtProvider.REVOKED | AtProvider.NOT_OFFERED | AtProvider.ERASED:
                pass
    return None if await stored.erase_grant(grant_id) else "has a request under way: repeat in a minute"
