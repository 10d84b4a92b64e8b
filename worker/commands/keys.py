"""`evergrant keys …`: the key ring."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from worker.storage.sealing import generate_key

keys = typer.Typer(no_args_is_help=True, help="The key ring that seals tokens in the database.")


@keys.command()
def generate(
    *, key_id: Annotated[str, typer.Option("--id", help="The key's id: it is stored with what the key seals.")] = "k1"
) -> None:
    """Make a key and print it in the form that EVERGRANT_KEYS takes. Whoever has it can open every token.

    Example: (umask 077; evergrant keys generate --id 2026-11 > evergrant.keys)
    """
    typer.echo(generate_key(key_id, os.urandom).reveal())
