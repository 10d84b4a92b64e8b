"""`evergrant providers …`: the catalogue and what the configuration adds to it."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Annotated

import typer

from worker.commands.console import AsJson, fail, print_json, print_table, settings, text
from worker.commands.running import with_running
from worker.configuration import load_configuration
from worker.domain.duration import write_duration
from worker.oauth.registry import Registry

providers = typer.Typer(no_args_is_help=True, help="The providers known here, and their facts.")


@providers.command(name="list")
def list_providers(*, as_json: AsJson = False) -> None:
    """List the providers.

    Example: evergrant providers list
    """
    found = _registry().providers.values()
    if as_json:
        print_json([provider.model_dump(mode="json") for provider in found])
        return
    print_table(
        ["NAME", "ROTATION", "OLD TOKEN", "CLIENT AUTH", "TOKEN ENDPOINT"],
        [
            [provider.name, provider.rotation, provider.old_token, provider.client_auth, provider.token_endpoint]
            for provider in found
        ],
    )


@providers.command()
def show(name: Annotated[str, typer.Argument(help="The provider's name.")], *, as_json: AsJson = False) -> None:
    """Show what is known about one provider. What is unknown says so.

    Example: evergrant providers show askara
    """
    provider = _registry().providers.get(name)
    if provider is None:
        fail(f"provider {name!r} is unknown; `evergrant providers list` shows those that are not")
    if as_json:
        print_json(provider.model_dump(mode="json"))
        return
    width = max(len(field) for field in type(provider).model_fields)
    for field in type(provider).model_fields:
        value = getattr(provider, field)
        typer.echo(f"{field.ljust(width)}  {'unknown' if value is None else _written(value)}")


def _written(value: object) -> str:
    if isinstance(value, timedelta):
        return write_duration(value)
    # A separator may be a space, which would not be seen.
    return f'"{value}"' if isinstance(value, str) and value.isspace() else text(value or None)


def _registry() -> Registry:
    return load_configuration(settings(), with_running(os.environ)).registry
