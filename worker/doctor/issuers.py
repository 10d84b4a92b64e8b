"""What issuers say of themselves, held against what is written down. Nothing here changes where a request goes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import httpx

from worker.bootstrap import software
from worker.doctor.finding import Finding, ok, warning
from worker.oauth.client import Client
from worker.oauth.discovery import Discovered, NotDiscovered, changed, discover
from worker.oauth.http_client import create_http_client
from worker.oauth.placeholders import names_in
from worker.oauth.provider import Provider
from worker.oauth.provider_kinds import Pkce

#: Issuers asked at once: a person waits, and nobody is pressed.
_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one issuer said, for a person."""

    name: str
    provider: str
    said: str
    lines: tuple[str, ...] = ()
    differs: bool = False  #: it says something else than what is written down, or could not be asked
    changes: tuple[str, ...] = ()  #: of `lines`: endpoints that are written down differently


async def discover_each(providers: Iterable[Provider], clients: Sequence[Client]) -> list[Report]:
    """Ask the issuer of each provider that has one, and compare.

    Args:
        providers: those to ask for.
        clients: their placeholders fill the issuers' addresses; each filled address is asked once.

    """
    asked = [(name, filled) for provider in providers if provider.issuer for name, filled in _filled(provider, clients)]
    limit = asyncio.Semaphore(_AT_ONCE)
    async with create_http_client(user_agent=software()) as http:
        return list(await asyncio.gather(*(_ask(http, name, provider, limit) for name, provider in asked)))


async def check_issuers(clients: Sequence[Client]) -> list[Finding]:
    """Ask the issuers of the clients' providers whether their endpoints are those that are written down.

    One that says nothing is fine: what is written down is used whatever it says.
    """
    own = {client.provider.name: client.provider for client in clients}
    return [_finding(report) for report in await discover_each(own.values(), clients)]


def _finding(report: Report) -> Finding:
    check = f"issuer of {report.name}"
    if not report.changes:
        return ok(check, report.said)
    remedy = f"it is not followed: ask the provider whether it is meant, then change [providers.{report.provider}]"
    return warning(check, "; ".join((report.said, *report.changes)), remedy)


def _filled(provider: Provider, clients: Sequence[Client]) -> list[tuple[str, Provider]]:
    """Return a provider with its placeholders filled in, as each client has them, else with its defaults."""
    own = {client.provider.issuer: client for client in clients if client.provider.name == provider.name}
    if own:
        return [(f"{provider.name} (client {client.name})", client.provider) for client in own.values()]
    defaults = {
        name: value
        for name, declared in provider.placeholders.items()
        if declared.default is not None and (value := declared.accepted(declared.default)) is not None
    }
    return [(provider.name, provider.filled(defaults))]


async def _ask(http: httpx.AsyncClient, name: str, provider: Provider, limit: asyncio.Semaphore) -> Report:
    issuer = provider.issuer or ""
    empty = names_in([issuer])
    if empty:
        return Report(
            name=name, provider=provider.name, said=f"not asked: no client fills in {{{empty[0]}}} of its issuer"
        )
    async with limit:
        found = await discover(http, issuer, allow_private_addresses=provider.allow_private_addresses)
    match found:
        case NotDiscovered(why=why):
            said = f"{issuer} told nothing: {why}"
            return Report(name=name, provider=provider.name, said=said, differs=True)
        case Discovered():
            return _compared(name, provider, found)


def _compared(name: str, provider: Provider, found: Discovered) -> Report:
    changes = changed(provider, found)
    differing = [
        f"{change.key}: written down is {change.pinned}, the issuer says {change.found}"
        for change in changes
        if change.pinned is not None
    ]
    missing = [f'{change.key} = "{change.found}"' for change in changes if change.pinned is None]
    lines = [*differing, *(f"{key}: the issuer's address {why}" for key, why in found.unusable.items())]
    if missing:
        lines.append(f"the issuer also names, and nothing is followed before it stands in [providers.{provider.name}]:")
        lines += [f"  {line}" for line in missing]
    lines += _also(provider, found)
    said = f"{found.issuer} says something else" if differing else f"{found.issuer} says the same"
    return Report(
        name=name,
        provider=provider.name,
        said=said,
        lines=tuple(lines),
        differs=bool(differing),
        changes=tuple(differing),
    )


def _also(provider: Provider, found: Discovered) -> list[str]:
    """Return what the issuer says of more than addresses, where it is not what is written down."""
    lines: list[str] = []
    if found.client_auth_methods and provider.client_auth not in found.client_auth_methods:
        named = ", ".join(found.client_auth_methods)
        lines.append(f"client_auth: written down is {provider.client_auth}, the issuer says {named}")
    if found.is_s256_supported and provider.pkce in {None, Pkce.OFF}:
        lines.append('the issuer takes PKCE with S256; pkce = "supported" sends it')
    if found.promises_iss and not provider.authorization_response_iss_parameter_supported:
        key = "authorization_response_iss_parameter_supported = true"
        lines.append(f"the issuer names itself in each redirect (RFC 9207); {key} refuses one that does not")
    return lines
