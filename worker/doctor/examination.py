"""The whole examination, in the order in which one thing rests on another."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.bootstrap import create_schema, software, wall_clock
from worker.configuration import Configuration, load_configuration
from worker.doctor.database import check_server, check_tables, check_workers, describe
from worker.doctor.finding import Finding, error, ok, warning
from worker.doctor.issuers import check_issuers
from worker.doctor.secret_files import check_files
from worker.doctor.servers import check_broker, check_mail_server, check_public_url
from worker.doctor.token_endpoints import check_token_endpoints
from worker.domain.errors import ConfigurationError, EvergrantError
from worker.keys_bootstrap import create_key_records, create_key_ring
from worker.mail.delivery import hello_name
from worker.oauth.http_client import create_http_client
from worker.settings import DEFAULT_CONFIG, Settings, load_settings
from worker.storage.database import create_engine

_EXAMPLE: Final = "config/example.env lists all settings, config/evergrant.example.toml the configuration's keys"


async def examine(environment: Mapping[str, str], now: Callable[[], datetime] = wall_clock) -> list[Finding]:
    """Look at everything and change nothing. What one thing rests on and is not there is told once.

    Args:
        environment: where settings and secrets are looked up.
        now: this machine's clock.

    """
    try:
        settings = load_settings(environment)
    except ConfigurationError as wrong:
        return [error("settings", str(wrong), _EXAMPLE)]
    findings = [_required(settings)]
    config = settings.config or (DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None)
    configuration, found = _configuration(settings, environment, config)
    findings += [found, *await asyncio.to_thread(lambda: list(check_files(environment, settings, config)))]
    checks = [_database(settings, configuration, now), check_public_url(settings.public_url)]
    if settings.broker_url is not None:
        checks.append(check_broker(settings.broker_url))
    if settings.smtp_url is not None:
        hello = hello_name(urlsplit(settings.public_url).hostname or "localhost")
        checks.append(check_mail_server(settings.smtp_url, hello, ssl.create_default_context()))
    else:
        findings.append(
            warning("mail server", "none is set: owners of dead grants are not mailed", "set EVERGRANT_SMTP_URL")
        )
    if configuration is not None:
        findings += _proxies(settings, configuration)
        checks.append(_clients(configuration, now))
        checks.append(check_issuers(list(configuration.registry.clients.values())))
    for several in await asyncio.gather(*checks):
        findings += several
    return findings


def _required(settings: Settings) -> Finding:
    missing = [name for name in ("database_url", "broker_url", "keys") if getattr(settings, name) is None]
    if missing:
        names = ", ".join(f"EVERGRANT_{name.upper()}" for name in missing)
        return error("settings", f"{names}: not set", f"set them, or start `evergrant up`; {_EXAMPLE}")
    return ok("settings", "all that is needed is set")


def _configuration(
    settings: Settings, environment: Mapping[str, str], path: Path | None
) -> tuple[Configuration | None, Finding]:
    try:
        configuration = load_configuration(settings, environment)
    except ConfigurationError as wrong:
        return None, error("configuration", str(wrong), _EXAMPLE)
    clients = len(configuration.registry.clients)
    if not clients:
        where = str(path) if path is not None else f"{DEFAULT_CONFIG}, which does not exist"
        return configuration, warning("configuration", f"no client is configured in {where}", "add [clients.NAME]")
    return configuration, ok("configuration", f"{clients} {'client' if clients == 1 else 'clients'}")


def _proxies(settings: Settings, configuration: Configuration) -> list[Finding]:
    # `evergrant web` speaks no TLS, so whoever comes by https comes through something that does.
    if urlsplit(settings.public_url).scheme != "https" or configuration.web.trusted_proxies:
        return []
    found = "EVERGRANT_PUBLIC_URL is https, and no proxy is trusted: all who come through yours are one address"
    return [warning("proxies", found, "name your proxy's network in [web] trusted_proxies, such as 127.0.0.0/8")]


async def _database(
    settings: Settings, configuration: Configuration | None, now: Callable[[], datetime]
) -> list[Finding]:
    if settings.database_url is None:
        return []
    try:
        version = await asyncio.to_thread(create_schema(settings).check)
        findings = [ok("schema", f"at {version}, as this version needs it")]
    except EvergrantError as wrong:
        remedy = "run `evergrant db upgrade`, or this version against its own database"
        findings = [error("schema", str(wrong), remedy)]
        if "does not answer" in str(wrong) or isinstance(wrong, ConfigurationError):
            return [error("database", str(wrong), "check EVERGRANT_DATABASE_URL, and that PostgreSQL is up")]
    engine = create_engine(settings.database_url, connections=1, name="evergrant doctor")
    try:
        findings += await check_server(engine, now)
        if findings[0].level == "ok":
            findings += await _contents(engine, settings, configuration)
    except DBAPIError as failed:
        findings.append(error("database", describe(failed), "see what PostgreSQL's log says"))
    finally:
        await engine.dispose()
    return findings


async def _contents(engine: AsyncEngine, settings: Settings, configuration: Configuration | None) -> list[Finding]:
    session_lock = configuration.worker.session_lock if configuration is not None else True
    return [
        *await asyncio.to_thread(_keys, settings),
        *await check_tables(engine),
        *await check_workers(engine, session_lock=session_lock),
    ]


def _keys(settings: Settings) -> list[Finding]:
    if settings.keys is None:
        return []
    try:
        create_key_records(settings).check(note=False)
        ids = create_key_ring(settings).key_ids
    except EvergrantError as wrong:
        return [error("keys", str(wrong), "put the key back into the ring, behind the first")]
    more = f"; {', '.join(ids[1:])} open too" if len(ids) > 1 else ""
    return [ok("keys", f"{ids[0]} seals{more}")]


async def _clients(configuration: Configuration, now: Callable[[], datetime]) -> list[Finding]:
    async with create_http_client(user_agent=software()) as http:
        return await check_token_endpoints(http, list(configuration.registry.clients.values()), now)
