"""The providers and clients of this deployment: the catalogue, overridden key by key, and our registrations."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from worker.domain.allowance import ClientLimits
from worker.domain.errors import ConfigurationError
from worker.domain.secret import Secret
from worker.oauth.client import Client, ClientEntry
from worker.oauth.provider import ClientAuth, Provider

#: A secret file is read up to here; a longer one is a wrong path.
_SECRET_FILE_LIMIT: Final = 64 * 1024

Table = Mapping[str, Any]
Model = TypeVar("Model", bound=BaseModel)


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
            message = f"client {name!r} is not configured{_nearest(name, self.clients)}"
            raise ConfigurationError(message) from None


def build_registry(
    *, catalogue: Table, providers: Table, clients: Table, environment: Mapping[str, str], public_url: str
) -> Registry:
    """Validate providers and clients and resolve the clients' secrets.

    Args:
        catalogue: the shipped facts, by provider name.
        providers: `[providers.*]` of the configuration: new ones, or keys that override the catalogue's.
        clients: `[clients.*]` of the configuration.
        environment: where `env:NAME` references are looked up.
        public_url: base of the default redirect URI.

    Raises:
        ConfigurationError: one line naming the table and key, and never a value that may be secret.

    """
    known = {
        name: _provider(name, catalogue.get(name, {}), providers.get(name, {})) for name in {**catalogue, **providers}
    }
    resolved = {name: _client(name, table, known, environment, public_url) for name, table in clients.items()}
    return Registry(providers=dict(sorted(known.items())), clients=dict(sorted(resolved.items())))


def _provider(name: str, facts: object, overrides: object) -> Provider:
    where = f"providers.{name}"
    if not isinstance(facts, dict) or not isinstance(overrides, dict):
        message = f"[{where}] must be a table"
        raise ConfigurationError(message)
    merged = {**facts, **overrides}
    if "name" in merged:
        message = f"[{where}] unknown key 'name': a provider's name is that of its table"
        raise ConfigurationError(message)
    return validated(Provider, where, {**merged, "name": name})


def validated(model: type[Model], where: str, table: object) -> Model:
    """Validate one table of the configuration.

    Raises:
        ConfigurationError: one line with the table's name and every key that is wrong.

    """
    if not isinstance(table, dict):
        message = f"[{where}] must be a table"
        raise ConfigurationError(message)
    try:
        return model.model_validate(table)
    except ValidationError as error:
        raise ConfigurationError(f"[{where}] {_complaints(error, model)}") from None


def _complaints(error: ValidationError, model: type[BaseModel]) -> str:
    lines = []
    for found in error.errors(include_input=False, include_url=False, include_context=False):
        key = ".".join(str(part) for part in found["loc"])
        if found["type"] == "extra_forbidden":
            lines.append(f"unknown key {key!r}{_nearest(key, model.model_fields)}")
        elif found["type"] == "missing":
            lines.append(f"{key} is missing")
        else:
            text = found["msg"].removeprefix("Value error, ")
            lines.append(f"{key}: {text}" if key else text)
    return "; ".join(lines)


def _nearest(name: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f" (did you mean {close[0]!r}?)"
    return f" (known: {', '.join(sorted(known))})" if known else ""


def _client(
    name: str, table: object, providers: Mapping[str, Provider], environment: Mapping[str, str], public_url: str
) -> Client:
    where = f"clients.{name}"
    entry = validated(ClientEntry, where, table)
    provider = providers.get(entry.provider)
    if provider is None:
        message = f"[{where}] provider {entry.provider!r} is unknown{_nearest(entry.provider, providers)}"
        raise ConfigurationError(message)
    if provider.client_auth is not ClientAuth.NONE and not entry.client_secret:
        message = (
            f"[{where}] client_secret is missing: provider {provider.name!r} authenticates with {provider.client_auth}"
        )
        raise ConfigurationError(message)
    return Client(
        name=name,
        provider=provider,
        client_id=entry.client_id,
        client_secrets=tuple(_resolve(reference, where, environment) for reference in entry.client_secret),
        redirect_uri=entry.redirect_uri or f"{public_url.rstrip('/')}/oauth/callback",
        scopes=entry.scopes,
        keep=entry.keep,
        limits=ClientLimits(rate_per_second=entry.rate, max_in_flight=entry.max_in_flight),
    )


def _resolve(reference: str, where: str, environment: Mapping[str, str]) -> Secret:
    kind, _, rest = reference.partition(":")
    if kind == "env" and rest:
        if not environment.get(rest):
            message = f"[{where}] client_secret: environment variable {rest} is not set"
            raise ConfigurationError(message)
        return _encodable(Secret(environment[rest]), f"[{where}] client_secret: environment variable {rest}")
    if kind == "file" and rest:
        return _read_secret(Path(rest), where)
    message = f"[{where}] client_secret must be a reference, env:NAME or file:/path, not the secret itself"
    raise ConfigurationError(message)


def _read_secret(path: Path, where: str) -> Secret:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_SECRET_FILE_LIMIT + 1)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        message = f"[{where}] client_secret: cannot read {path}: {reason}"
        raise ConfigurationError(message) from None
    if len(text) > _SECRET_FILE_LIMIT:
        message = f"[{where}] client_secret: {path} is too long for a secret"
        raise ConfigurationError(message)
    if not text.strip():
        message = f"[{where}] client_secret: {path} is empty"
        raise ConfigurationError(message)
    return Secret(text.strip())


def _encodable(secret: Secret, what: str) -> Secret:
    # Python reads an environment that is not UTF-8 as halves of surrogate pairs. Found later, at the first request, it
    # would look like the fault of every grant.
    try:
        secret.reveal().encode()
    except UnicodeEncodeError:
        message = f"{what} is not UTF-8"
        raise ConfigurationError(message) from None
    return secret
