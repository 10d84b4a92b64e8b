"""`evergrant up`: everything in one go, with servers of its own where none are configured."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from prometheus_client import CollectorRegistry

from worker.bootstrap import create_container, create_schema, monotonic
from worker.commands.console_link import sign_in_link
from worker.commands.running import forget_running, write_running
from worker.configuration import load_configuration
from worker.demo.configuration import DemoFiles, demo_environment, write_demo
from worker.domain.errors import ConfigurationError
from worker.domain.secret import Secret
from worker.embedded import EmbeddedServices, ServiceUrls, bind_to_parent
from worker.logging import configure_logging
from worker.settings import PREFIX, Settings, load_settings
from worker.start_checks import check_start
from worker.storage.sealing import generate_key
from worker.supervisor import Supervisor, free_port, port_is_free

DEFAULT_PORT = 8080


def up(
    *,
    demo: Annotated[bool, typer.Option("--demo", help="Add a sandbox provider and some dozens of grants.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page; 0 takes a free one.")] = DEFAULT_PORT,
    with_parent: Annotated[
        bool, typer.Option("--with-parent", help="End at once when the process that started this ends.")
    ] = False,
) -> None:
    """Start everything: database, broker, beat, worker and web. Ctrl-C stops all of it.

    Without EVERGRANT_DATABASE_URL and EVERGRANT_BROKER_URL it starts a PostgreSQL and a Valkey of its own, whose data
    stay in EVERGRANT_HOME_DIR.

    Example: evergrant up --demo
    """
    if with_parent:
        bind_to_parent()
    settings = load_settings(os.environ)
    configure_logging(settings.log_format, settings.log_level)
    if port == 0:
        port = free_port()
    elif not port_is_free(port):
        raise ConfigurationError(f"port {port} is in use; choose another with --port, or --port 0 for any free one")
    home = settings.home_dir.resolve()
    services = EmbeddedServices(
        home,
        want_database=settings.database_url is None,
        want_broker=settings.broker_url is None,
        token=lambda: secrets.token_urlsafe(32),
        monotonic=monotonic,
    )
    _say(f"starting in {home}")
    with contextlib.ExitStack() as stopping:
        stopping.callback(services.stop)
        urls = services.start()
        files = write_demo(home, settings.public_url_or(port), free_port) if demo else None
        environment = _environment(settings, urls, home, port, files)
        write_running(home, environment)
        try:
            started = load_settings(environment)
            load_configuration(started, environment)
            create_schema(started).upgrade()
            check_start(started)
            supervisor = Supervisor(
                environment,
                services=services,
                home=home,
                port=port,
                metrics_port=started.metrics_port,
                demo=files,
                sign_in=lambda: _first_link(started, environment),
                say=_say,
            )
            raise typer.Exit(supervisor.run())
        finally:
            forget_running(home)


def _environment(
    settings: Settings, urls: ServiceUrls, home: Path, port: int, files: DemoFiles | None
) -> dict[str, str]:
    """Return the environment that all processes get: ours, completed by what was started here."""
    environment = {name: value for name, value in os.environ.items() if name != "PROMETHEUS_MULTIPROC_DIR"}
    if urls.database is not None:
        environment[f"{PREFIX}DATABASE_URL"] = urls.database.reveal()
    if urls.broker is not None:
        environment[f"{PREFIX}BROKER_URL"] = urls.broker.reveal()
    if settings.keys is None:
        if urls.database is None:
            settings.require_keys()  # a database of one's own needs keys of one's own: losing them loses every grant
        environment[f"{PREFIX}KEYS"] = _own_keys(home / "keys").reveal()
    environment.setdefault(f"{PREFIX}PUBLIC_URL", settings.public_url_or(port))
    environment[f"{PREFIX}HOME_DIR"] = str(home)
    if files is None:
        return environment
    demo = demo_environment(files)
    kept = {name: value for name, value in environment.items() if name.removesuffix("_FILE") not in demo}
    return {**kept, **demo}


def _first_link(settings: Settings, environment: Mapping[str, str]) -> Secret:
    """Return a link that signs the first operator in."""

    async def make() -> Secret:
        container = create_container(
            settings, name="evergrant up", environment=environment, registry=CollectorRegistry()
        )
        try:
            return await sign_in_link(container)
        finally:
            await container.close()

    return asyncio.run(make())


def _own_keys(path: Path) -> Secret:
    """Return the key ring of an embedded database, made at the first start."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return Secret(path.read_text(encoding="utf-8").strip())
    made = generate_key("embedded", os.urandom)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(made.reveal() + "\n")
    return made


def _say(line: str) -> None:
    typer.echo(line)
