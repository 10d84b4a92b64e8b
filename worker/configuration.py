"""The configuration file: providers, clients, mails and the worker's own limits, from TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from worker.domain.errors import ConfigurationError
from worker.mail.table import MailTable
from worker.mail.writing import check_templates
from worker.oauth.complaints import nearest
from worker.oauth.provider_values import Duration
from worker.oauth.registry import Registry, build_registry
from worker.oauth.validation import validated
from worker.openid.table import SignInRules, build_sign_in
from worker.packaged import catalogue_path
from worker.settings import DEFAULT_CONFIG, Settings
from worker.webhooks.endpoint import Endpoint, build_endpoints

#: What a lease must outlive a request by: the settle, a slow commit, a paused process that wakes up.
LEASE_MARGIN: Final = timedelta(seconds=10)
#: The brake looks back ten minutes in the lineage, and whoever searches what happened to a grant a little longer.
SHORTEST_LINEAGE: Final = timedelta(hours=1)
#: The database lets nothing of the audit log go that is younger.
SHORTEST_AUDIT: Final = timedelta(days=30)
#: A webhook is tried for three days and may be asked for again; a link in a mail is good for two weeks.
SHORTEST_EVENTS: Final = timedelta(days=14)
_TABLES: Final = ("providers", "clients", "webhooks", "mails", "worker", "web", "sign_in")


def _long_enough(lineage: timedelta) -> timedelta:
    if lineage < SHORTEST_LINEAGE:
        raise ValueError("must be at least 1h")
    return lineage


def _events_long_enough(events: timedelta) -> timedelta:
    if events < SHORTEST_EVENTS:
        raise ValueError("must be at least 14d")
    return events


def _kept_long_enough(audit: timedelta) -> timedelta:
    if audit < SHORTEST_AUDIT:
        raise ValueError("must be at least 30d")
    return audit


def _some_time(span: timedelta) -> timedelta:
    if span < timedelta(minutes=1):
        raise ValueError("must be at least 1m")
    return span


class WebLimits(BaseModel):
    """`[web]`: how long people stay signed in, whose word on addresses counts, how long the audit log is kept."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    session_idle: Annotated[Duration, AfterValidator(_some_time)] = timedelta(hours=2)  #: unused for so long, it ends
    session_lifetime: Annotated[Duration, AfterValidator(_some_time)] = timedelta(hours=12)  #: and after so long anyway
    #: Networks of our own proxies: theirs alone are believed to say for whom they ask.
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    keep_audit: Annotated[Duration, AfterValidator(_kept_long_enough)] = timedelta(days=366)


class WorkerLimits(BaseModel):
    """`[worker]`: how often to look and how much to do at once."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tick: Duration = timedelta(seconds=1)  #: how often beat asks what is due
    lease: Duration = timedelta(seconds=60)  #: how long a worker has for one grant
    max_in_flight: Annotated[int, Field(ge=1, le=10_000)] = 200  #: requests under way in one process
    #: Whether a session lock tells of a worker's death; switch it off behind a transaction pooler.
    session_lock: bool = True
    drain_time: Duration = timedelta(seconds=20)  #: how long one ticket works at most
    stop_time: Duration = timedelta(seconds=25)  #: how long a stopping worker waits for what it has sent
    #: How long each grant's lineage is kept: when it was rotated, and a fingerprint of what was spent.
    keep_rotations: Annotated[Duration, AfterValidator(_long_enough)] = timedelta(days=1)
    #: How long events are kept, and with them webhooks that were not taken, and what became of mails.
    keep_events: Annotated[Duration, AfterValidator(_events_long_enough)] = timedelta(days=90)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """The configuration file, validated, with the catalogue beneath it."""

    registry: Registry
    worker: WorkerLimits
    web: WebLimits
    sign_in: SignInRules | None
    webhooks: Mapping[str, Endpoint]
    mails: MailTable
    catalogue: Mapping[str, Any]  #: the shipped facts, as they are written
    own_providers: Mapping[str, Any]  #: `[providers.*]` of the configuration, as they are written


def configuration_file(settings: Settings) -> Path | None:
    """Return the file that settings name, else the one in its usual place where there is one, else None."""
    return settings.config or (DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None)


def load_configuration(settings: Settings, environment: Mapping[str, str] | None) -> Configuration:
    """Read the catalogue and the configuration file.

    Args:
        settings: name the file.
        environment: where references to secrets are looked up; with None they are not, for whoever only describes.

    Raises:
        ConfigurationError: one line that names the file, the table and the key.

    """
    path = configuration_file(settings)
    tables = _read_toml(path) if path is not None else {}
    unknown = [name for name in tables if name not in _TABLES]
    if unknown:
        raise ConfigurationError(f"{path}: unknown table [{unknown[0]}]{nearest(unknown[0], _TABLES)}")
    catalogue = _read_toml(catalogue_path())
    try:
        own_providers = _table(tables, "providers")
        registry = build_registry(
            catalogue=catalogue,
            providers=own_providers,
            clients=_table(tables, "clients"),
            environment=environment,
            public_url=settings.public_url,
        )
        webhooks = build_endpoints(_table(tables, "webhooks"), clients=tuple(registry.clients), environment=environment)
        worker = validated(WorkerLimits, "worker", tables.get("worker", {}))
        _check_lease(worker, registry)
        web = validated(WebLimits, "web", tables.get("web", {}))
        sign_in = build_sign_in(tables.get("sign_in"), clients=tuple(registry.clients), environment=environment)
        mails = validated(MailTable, "mails", tables.get("mails", {}))
        check_templates(mails.templates)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path or catalogue_path()}: {error}") from None
    return Configuration(
        registry=registry,
        worker=worker,
        web=web,
        sign_in=sign_in,
        webhooks=webhooks,
        mails=mails,
        catalogue=catalogue,
        own_providers=own_providers,
    )


def _check_lease(worker: WorkerLimits, registry: Registry) -> None:
    for client in registry.clients.values():
        # Every client secret may cost one request within the same lease.
        longest = client.provider.request_timeout * max(1, len(client.client_secrets))
        if worker.lease < longest + LEASE_MARGIN:
            raise ConfigurationError(
                f"[worker] lease of {worker.lease.total_seconds():g} s is too short: a refresh for client "
                f"{client.name!r} may take {longest.total_seconds():g} s, and a lease must outlive it by "
                f"{LEASE_MARGIN.total_seconds():g} s"
            )


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"cannot read the configuration {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from None


def _table(tables: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = tables.get(name, {})
    if not isinstance(found, dict):
        raise ConfigurationError(f"[{name}] must be a table of tables, such as [{name}.acme]")
    return found
