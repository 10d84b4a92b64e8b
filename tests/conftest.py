"""Real parts for every test: PostgreSQL and Valkey of our own, started once, and a fresh migrated database for each."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry

from tests.authorization_servers.fixtures import authorization_server_log, oidc_provider, oidc_provider_installed
from tests.support.database import create_database
from tests.support.running_web import RunningWeb
from worker.bootstrap import Container, create_container, monotonic
from worker.domain.secret import Secret
from worker.embedded import EmbeddedPostgres, EmbeddedValkey
from worker.packaged import migrations_path
from worker.sandbox.server import RunningSandbox
from worker.settings import Settings
from worker.storage.schema import Schema
from worker.storage.sealing import generate_key

__all__ = ["authorization_server_log", "oidc_provider", "oidc_provider_installed"]

ContainerMaker = Callable[..., AbstractAsyncContextManager[Container]]
WebMaker = Callable[..., AbstractContextManager[RunningWeb]]


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside() -> None:
    """Take away what the machine says about Evergrant, so that tests depend on nothing but themselves."""
    for name in [name for name in os.environ if name.startswith(("EVERGRANT_", "PROMETHEUS_"))]:
        if not name.startswith("EVERGRANT_TEST_"):
            del os.environ[name]


@pytest.fixture(scope="session")
def database_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a PostgreSQL and give the URL of its first database."""
    server = EmbeddedPostgres(
        tmp_path_factory.mktemp("postgres"),
        token=lambda: secrets.token_urlsafe(24),
        monotonic=monotonic,
        durable=False,
    )
    with server:
        yield server.start().reveal()


@pytest.fixture(scope="session")
def migrated_template(database_server: str) -> str:
    """Make one migrated database that every test's own is copied from, and give its name."""
    name = "migrated_template"
    Schema(Secret(create_database(database_server, name)), migrations_path()).upgrade()
    return name


@pytest.fixture
def empty_database_url(database_server: str) -> str:
    """Give the URL of a database without any table."""
    return create_database(database_server, f"empty_{uuid4().hex}")


@pytest.fixture
def database_url(database_server: str, migrated_template: str) -> str:
    """Give the URL of a fresh, migrated database."""
    return create_database(database_server, f"test_{uuid4().hex}", template=migrated_template)


@pytest.fixture(scope="session")
def broker_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a Valkey and give its URL."""
    server = EmbeddedValkey(
        tmp_path_factory.mktemp("valkey"), token=lambda: secrets.token_urlsafe(24), monotonic=monotonic
    )
    try:
        yield server.start().reveal()
    finally:
        server.stop()


@pytest.fixture
def anyio_backend() -> str:
    """Run asynchronous tests on asyncio, as the workers do."""
    return "asyncio"


@pytest.fixture
def keys() -> Secret:
    """Give a key ring of one fresh key."""
    return generate_key("test", os.urandom)


@pytest.fixture
def sandbox() -> Iterator[RunningSandbox]:
    """Run an authorization server that rotates, detects reuse and misbehaves on order."""
    with RunningSandbox() as running:
        yield running


def mail_settings(smtp_url: str | None) -> dict[str, Any]:
    """Return what settings say of a mail server."""
    return {"smtp_url": Secret(smtp_url), "mail_from": "Tokens <tokens@example.com>"} if smtp_url is not None else {}


@pytest.fixture
def make_container(database_url: str, keys: Secret, tmp_path: Path) -> ContainerMaker:
    """Give a way to wire a process on the running event loop, from a configuration written as TOML.

    Its database and keys are the test's, unless `database` is another URL of it or `key_ring` another ring. Mails are
    sent where `smtp_url` is given.
    """

    @asynccontextmanager
    async def make(
        configuration: str,
        *,
        database: str = database_url,
        key_ring: Secret = keys,
        smtp_url: str | None = None,
        **environment: str,
    ) -> AsyncIterator[Container]:
        path = tmp_path / "evergrant.toml"
        path.write_text(configuration, encoding="utf-8")
        settings = Settings(
            database_url=Secret(database),
            keys=key_ring,
            config=path,
            home_dir=tmp_path / "home",
            **mail_settings(smtp_url),
        )
        container = create_container(settings, name="test", environment=environment, registry=CollectorRegistry())
        try:
            yield container
        finally:
            await container.close()

    return make


@pytest.fixture
def make_web(database_url: str, broker_url: str, keys: Secret, tmp_path: Path) -> WebMaker:
    """Give a way to serve the web application, from a configuration written as TOML.

    Its database, broker and keys are the test's, and its public URL is where it listens, unless others are given.
    """

    @contextmanager
    def make(
        configuration: str,
        *,
        database: str = database_url,
        broker: str = broker_url,
        public_url: str | None = None,
        smtp_url: str | None = None,
        port: int = 0,
        **environment: str,
    ) -> Iterator[RunningWeb]:
        path = tmp_path / "evergrant-web.toml"
        path.write_text(configuration, encoding="utf-8")

        def create(url: str, registry: CollectorRegistry) -> Container:
            settings = Settings(
                database_url=Secret(database),
                broker_url=Secret(broker),
                keys=keys,
                config=path,
                home_dir=tmp_path / "home",
                public_url=public_url or url,
                **mail_settings(smtp_url),
            )
            return create_container(settings, name="test web", environment=environment, registry=registry)

        with RunningWeb(create, port) as running:
            yield running

    return make
