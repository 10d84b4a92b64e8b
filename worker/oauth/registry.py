"""The providers and clients of this deployment: the catalogue, overridden key by key, and our registrations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worker.domain.allowance import ClientLimits
from worker.domain.errors import ConfigurationError
from worker.oauth.client import Client, ClientEntry, ClientKey
from worker.oauth.client_assertion import check_key
from worker.oauth.complaints import nearest
from worker.oauth.placeholders import Source
from worker.oauth.provider import Provider
from worker.oauth.references import resolve
from worker.oauth.validation import check_table, validated

Table = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """All providers known and all clients configured, by name."""

    providers: Mapping[str, Provider]
    clients: Mapping[str, Client]

    def client(self, name: str) -> Client:
        """Return the client of that name.

        Raises:
            ConfigurationError: when it is not configured; the message names the nearest one that is.

        """
        try:
            return self.clients[name]
        except KeyError:
            message = f"client {name!r} is not configured{nearest(name, self.clients)}"
            raise ConfigurationError(message) from None


def build_registry(
    *, catalogue: Table, providers: Table, clients: Table, environment: Mapping[str, str] | None, public_url: str
) -> Registry:
    """Validate providers and clients and resolve the clients' secrets.

    Args:
        catalogue: the shipped facts, by provider name.
        providers: `[providers.*]` of the configuration: new ones, or keys that override the catalogue's.
        clients: `[clients.*]` of the configuration.
        environment: where `env:NAME` references are looked up; with None no secret is, and clients have empty ones.
        public_url: base of the default redirect URI.

    Raises:
        ConfigurationError: one line naming the table and key, and never a value that may be secret.

    """
    known = {
        name: _provider(name, catalogue.get(name, {}), providers.get(name, {})) for name in {**catalogue, **providers}
    }
    resolved = {name: _client(name, table, known, environment, public_url) for name, table in clients.items()}
    return Registry(providers=dict(sorted(known.items())), clients=dict(sorted(resolved.items())))


def _provider(name: str, facts: Table, overrides: Table) -> Provider:
    where = f"providers.{name}"
    for table in (facts, overrides):
        check_table(where, table)
    merged = _merged(facts, overrides)
    if "name" in merged:
        message = f"[{where}] unknown key 'name': a provider's name is that of its table"
        raise ConfigurationError(message)
    return validated(Provider, where, {**merged, "name": name})


def _merged(facts: Table, overrides: Table) -> dict[str, Any]:
    """Put overrides over facts, key by key in every table; a list is replaced as a whole."""
    merged = dict(facts)
    for key, value in overrides.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _client(
    name: str, table: object, providers: Mapping[str, Provider], environment: Mapping[str, str] | None, public_url: str
) -> Client:
    where = f"clients.{name}"
    entry = validated(ClientEntry, where, table)
    provider = providers.get(entry.provider)
    if provider is None:
        message = f"[{where}] provider {entry.provider!r} is unknown{nearest(entry.provider, providers)}"
        raise ConfigurationError(message)
    # Whoever only describes may go on without: the issuer is asked by such a command.
    if environment is not None and not provider.has_token_endpoint:
        asked = f": `evergrant providers check {provider.name} --discover` asks its issuer" if provider.issuer else ""
        message = (
            f"[{where}] provider {provider.name!r} has no token_endpoint yet{asked}; "
            f"write it into [providers.{provider.name}]"
        )
        raise ConfigurationError(message)
    _check_credentials(entry, provider, where)
    placeholders = _placeholders(entry, provider, where)
    return Client(
        name=name,
        provider=provider.filled(placeholders),
        client_id=entry.client_id,
        client_secrets=tuple(
            resolve(reference, f"[{where}] client_secret", environment) for reference in entry.client_secret
        ),
        redirect_uri=entry.redirect_uri or f"{public_url.rstrip('/')}/oauth/callback",
        return_urls=entry.return_urls,
        scopes=entry.scopes,
        keep=entry.keep,
        placeholders=placeholders,
        key=_key(entry, where, environment),
        limits=ClientLimits(
            rate_per_second=entry.rate or provider.limits.refreshes_per_client, max_in_flight=entry.max_in_flight
        ),
        display_name=entry.display_name or provider.display_name or provider.name,
        reconsent_mails=entry.reconsent_mails,
        fallback_recipients=entry.fallback_recipients,
    )


def _check_credentials(entry: ClientEntry, provider: Provider, where: str) -> None:
    needed = {step.client_auth or provider.client_auth for step in (provider.code, provider.refresh)}
    missing = {
        "client_secret": [auth for auth in needed if auth.needs_secret and not entry.client_secret],
        "private_key": [auth for auth in needed if auth.needs_private_key and entry.private_key is None],
        "certificate": [auth for auth in needed if auth.needs_certificate and entry.certificate is None],
    }
    for key, methods in missing.items():
        if methods:
            message = f"[{where}] {key} is missing: provider {provider.name!r} authenticates with {methods[0]}"
            raise ConfigurationError(message)
    if entry.certificate is not None and entry.private_key is None:
        message = f"[{where}] private_key is missing: a certificate is of no use without it"
        raise ConfigurationError(message)


def _placeholders(entry: ClientEntry, provider: Provider, where: str) -> dict[str, str]:
    """Return what the operator fills in, the provider's defaults where they are his to change."""
    filled = {}
    for name, value in entry.placeholders.items():
        declared = provider.placeholders.get(name)
        if declared is None:
            message = f"[{where}] unknown placeholder {name!r}{nearest(name, provider.placeholders)}"
            raise ConfigurationError(message)
        accepted = declared.accepted(value)
        if accepted is None:
            expected = f" {declared.pattern.pattern}" if declared.pattern else " of letters, digits and . - _ ~ / :"
            message = f"[{where}] placeholders.{name}: {value!r} is not of the form{expected}"
            raise ConfigurationError(message)
        filled[name] = accepted
    for name, declared in provider.placeholders.items():
        if name in filled or declared.source is not Source.OPERATOR:
            continue
        default = declared.accepted(declared.default) if declared.default is not None else None
        if default is None:
            told = f": {declared.description}" if declared.description else ""
            message = f"[{where}] placeholders.{name} is missing{told}"
            raise ConfigurationError(message)
        filled[name] = default
    misfit = provider.misfit(filled)
    if misfit is not None:
        why = "the value does not fit there: it would change the address, or is empty or too long"
        message = f"[{where}] placeholders.{misfit}: {why}"
        raise ConfigurationError(message)
    return filled


def _key(entry: ClientEntry, where: str, environment: Mapping[str, str] | None) -> ClientKey | None:
    if entry.private_key is None:
        return None
    certificate = None
    if entry.certificate is not None:
        certificate = resolve(entry.certificate, f"[{where}] certificate", environment).reveal()
    key = ClientKey(
        private_key=resolve(entry.private_key, f"[{where}] private_key", environment),
        certificate=certificate,
        key_id=entry.key_id,
        algorithm=entry.signing_algorithm,
    )
    problem = check_key(key) if environment is not None else None
    if problem is not None:
        message = f"[{where}] {problem}"
        raise ConfigurationError(message)
    return key
