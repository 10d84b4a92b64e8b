"""`evergrant providers …`: the catalogue and what the configuration adds to it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Annotated

import typer

from worker.commands.console import AsJson, fail, print_json, print_table, settings
from worker.commands.provider_answer import MOST_READ, Step, meaning_of, parse_answer
from worker.commands.provider_facts import facts_of, hosts_of, matches, sureness
from worker.commands.provider_requests import requests_of
from worker.commands.running import with_running
from worker.commands.shown_values import shown_provider
from worker.configuration import Configuration, configuration_file, load_configuration
from worker.doctor.issuers import Report, discover_each
from worker.domain.errors import ConfigurationError
from worker.oauth.client import Client
from worker.oauth.provider import Provider
from worker.oauth.provider_kinds import Style
from worker.settings import DEFAULT_CONFIG

providers = typer.Typer(no_args_is_help=True, help="The providers known here, and their facts.")

_UNKNOWN = "unknown"


@providers.command(name="list")
def list_providers(
    word: Annotated[str, typer.Argument(help="A part of a name or of a host; without it, all.")] = "",
    *,
    as_json: AsJson = False,
) -> None:
    """List the providers, with what matters most when tokens rotate.

    KNOWN says where the facts come from: docs, how many of them are inferred, yours where the configuration sets them.

    Example: evergrant providers list salesforce
    """
    configuration = _configuration()
    found = [provider for provider in configuration.registry.providers.values() if matches(provider, word)]
    if as_json:
        print_json([shown_provider(provider) | {"hosts": hosts_of(provider)} for provider in found])
    elif found:
        print_table(
            ["NAME", "PROVIDER", "ROTATION", "OLD TOKEN", "CLIENT AUTH", "KNOWN"],
            [_line(provider, configuration) for provider in found],
        )
    if not found:
        fail(f"no provider has {word!r} in its name or its hosts{_meant(word, configuration)}")


@providers.command()
def show(name: Annotated[str, typer.Argument(help="The provider's name.")], *, as_json: AsJson = False) -> None:
    """Show what is known about one provider, how sure it is, and what is not known.

    KNOWN is certain where a source says so, inferred where it is a guess, default where nobody says anything and
    RFC 6749's way is taken, yours where the configuration says so.

    Example: evergrant providers show askara
    """
    configuration = _configuration()
    provider = _provider(name, configuration)
    facts = facts_of(provider, configuration.catalogue.get(name, {}), configuration.own_providers.get(name, {}))
    if as_json:
        known = {fact.key: fact.known for fact in facts if fact.known is not None}
        print_json(shown_provider(provider) | {"known": known})
        return
    print_table(
        ["KEY", "KNOWN", "VALUE"],
        [
            [fact.key, fact.known, fact.value + (f" (the catalogue has {fact.instead_of})" if fact.instead_of else "")]
            for fact in facts
        ],
    )


@providers.command()
def check(
    name: Annotated[str, typer.Argument(help="The provider's name; without it, all.")] = "",
    *,
    discover: Annotated[
        bool, typer.Option("--discover", help="Ask the issuers for their endpoints, and compare; change nothing.")
    ] = False,
    answer: Annotated[
        typer.FileBinaryRead | None,
        typer.Option("--answer", metavar="FILE", help="Say what would come of this answer; - reads standard input."),
    ] = None,
    step: Annotated[Step, typer.Option("--step", help="The request that --answer answers.")] = Step.REFRESH,
    status: Annotated[
        int | None, typer.Option("--status", min=100, max=599, help="The answer's status, where FILE is only a body.")
    ] = None,
) -> None:
    """Check the catalogue and the configuration; of one provider, show also what its clients send.

    With --discover the issuers are asked. What they say is reported and never followed.

    With --answer FILE an example from the provider's pages, or what `curl -i` brought, is read as a worker would read
    it: nothing is sent, nothing is stored, and no token is shown.

    Exit code 1: an issuer says something else, or nothing. Exit code 2: the configuration is wrong.

    Example: evergrant providers check microsoft --discover
    """
    if answer is not None and not name:
        raise ConfigurationError("--answer needs the provider's NAME: evergrant providers check NAME --answer FILE")
    configuration = _configuration()
    chosen = [_provider(name, configuration)] if name else list(configuration.registry.providers.values())
    clients = [client for client in configuration.registry.clients.values() if not name or client.provider.name == name]
    own = [provider for provider in chosen if provider.name in configuration.own_providers]
    what = f"provider {name}" if name else f"{len(chosen)} providers, {len(own)} with keys of yours,"
    typer.echo(f"{what} and {len(clients)} {'client' if len(clients) == 1 else 'clients'}: nothing wrong")
    if configuration_file(settings()) is None:
        typer.echo(f"there is no {DEFAULT_CONFIG} here, and EVERGRANT_CONFIG names no other file")
    missing = _missing_secret()
    if missing is not None:
        typer.echo(f"not to be had here, and worker and web would not start without it: {missing}")
    for client in clients if name else ():
        if not client.provider.has_token_endpoint:
            typer.echo(f"client {client.name} sends nothing yet: its provider has no token_endpoint")
            continue
        typer.echo(f"client {client.name} sends, with its secrets in place of these words:")
        for line in requests_of(client):
            typer.echo(f"  {line}")
    if answer is not None:
        now = datetime.now(UTC)  # noqa: TID251 -- as if it came now
        arrived = parse_answer(answer.read(MOST_READ), status=status, now=now)
        for line in meaning_of(arrived, chosen[0], step):
            typer.echo(line)
    if discover:
        _ask_issuers(chosen, clients)


def _ask_issuers(chosen: Sequence[Provider], clients: Sequence[Client]) -> None:
    reports = asyncio.run(discover_each(chosen, clients))
    if not reports:
        typer.echo("no issuer to ask")
    for report in reports:
        _say(report)
    if any(report.differs for report in reports):
        raise typer.Exit(1)


def _say(report: Report) -> None:
    typer.echo(f"{report.name}: {report.said}")
    for line in report.lines:
        typer.echo(f"  {line}")


def _line(provider: Provider, configuration: Configuration) -> list[object]:
    known = sureness(
        provider, configuration.catalogue.get(provider.name, {}), configuration.own_providers.get(provider.name, {})
    )
    shown: list[object] = [provider.name, provider.display_name]
    if provider.style is Style.REFRESH_TOKEN:
        shown += [provider.rotation or _UNKNOWN, provider.old_token or _UNKNOWN]
    else:
        shown += [provider.style, None]  # there is no refresh token that could rotate
    return [*shown, provider.client_auth, known]


def _provider(name: str, configuration: Configuration) -> Provider:
    provider = configuration.registry.providers.get(name)
    if provider is None:
        meant = _meant(name, configuration)
        raise ConfigurationError(f"provider {name!r} is unknown{meant}; `evergrant providers list` shows all")
    return provider


def _meant(word: str, configuration: Configuration) -> str:
    # The nearest name alone: all of them would be a page.
    close = get_close_matches(word, configuration.registry.providers, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _configuration() -> Configuration:
    # Facts are read, and requests written out, on machines that have no secret and need none.
    return load_configuration(settings(), None)


def _missing_secret() -> str | None:
    """Return what is said of the first secret that this environment lacks, or None where it has them all."""
    try:
        load_configuration(settings(), with_running(os.environ))
    except ConfigurationError as error:
        return str(error)
    return None
