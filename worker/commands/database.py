"""`evergrant db …`: the schema."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from worker.bootstrap import create_schema
from worker.commands.console import settings
from worker.domain.duration import parse_duration

db = typer.Typer(no_args_is_help=True, help="The database's schema.")


@db.command()
def upgrade(
    *,
    limit: Annotated[
        str | None, typer.Option(help="How long one statement may take, such as 10m, with very many rows; else 60s.")
    ] = None,
) -> None:
    """Bring the database up to date with this version. Safe to run twice, and from several places at once.

    Example: EVERGRANT_DATABASE_URL=postgresql://… evergrant db upgrade
    """
    schema = create_schema(settings())
    schema.upgrade(_duration(limit))
    typer.echo(f"the schema is at {schema.check()}")


@db.command()
def check() -> None:
    """Say whether the database's schema is the one this version needs.

    Example: evergrant db check
    """
    typer.echo(f"the schema is at {create_schema(settings()).check()}, as this version needs it")


def _duration(text: str | None) -> timedelta | None:
    if text is None:
        return None
    try:
        found = parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(f"--limit: {error}") from None
    if found < timedelta(seconds=1):
        raise typer.BadParameter("--limit: must be at least 1s")
    return found
