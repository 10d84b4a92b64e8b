"""`evergrant db …`: the schema."""

from __future__ import annotations

import typer

from worker.bootstrap import create_schema
from worker.commands.console import settings

db = typer.Typer(no_args_is_help=True, help="The database's schema.")


@db.command()
def upgrade() -> None:
    """Bring the database up to date with this version. Safe to run twice, and from several places at once.

    Example: EVERGRANT_DATABASE_URL=postgresql://… evergrant db upgrade
    """
    schema = create_schema(settings())
    schema.upgrade()
    typer.echo(f"the schema is at {schema.check()}")


@db.command()
def check() -> None:
    """Say whether the database's schema is the one this version needs.

    Example: evergrant db check
    """
    typer.echo(f"the schema is at {create_schema(settings()).check()}, as this version needs it")
