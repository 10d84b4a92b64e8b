"""What every part runs on: a PostgreSQL that waits for the disk, a Valkey, the token endpoint, and a folder."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from tests.bench.contenders import baseline_table
from tests.bench.endpoint_process import TokenEndpointProcess
from tests.support.database import create_database
from worker.bootstrap import monotonic
from worker.domain.secret import Secret
from worker.embedded import EmbeddedPostgres, EmbeddedValkey
from worker.packaged import migrations_path
from worker.storage.schema import Schema
from worker.storage.sealing import KeyRing, generate_key, parse_keys

CLIENT: Final = "bench"
CLIENT_SECRET: Final = "the bench's client secret"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The servers, and where things lie.

    Attributes:
        folder: for what the processes write; thrown away at the end.
        report: the folder that is kept.
        server_url: of PostgreSQL's first database; further ones are made from it.
        database_url: Evergrant's, migrated.
        baseline_url: of the database of everybody else.
        broker_url: Evergrant's and Celery's; each contender has a database of its own in it.
        postgres: process id of the server.
        endpoint: where tokens are refreshed.
        keys: seal the tokens in Evergrant's database.
        say: shows one line of progress.

    """

    folder: Path
    report: Path
    server_url: str
    database_url: str
    baseline_url: str
    broker_url: str
    postgres: int
    endpoint: TokenEndpointProcess
    keys: Secret
    say: Say

    def key_ring(self) -> KeyRing:
        """Return the key ring of Evergrant's database."""
        return KeyRing(parse_keys(self.keys), os.urandom)

    def connect(self, url: str | None = None) -> psycopg.Connection:
        """Connect to Evergrant's database, or another; every statement is committed by itself."""
        return psycopg.connect(url or self.database_url, autocommit=True)

    def migrated_database(self, name: str) -> str:
        """Make a further database of Evergrant's and return its URL."""
        url = create_database(self.server_url, name)
        Schema(Secret(url), migrations_path()).upgrade()
        return url

    def drop_database(self, name: str) -> None:
        """Remove a database that `migrated_database` made, and give its disk back."""
        with self.connect(self.server_url) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def running_world(folder: Path, report: Path, say: Say) -> Iterator[World]:
    """Start the servers for as long as a `with` block; called from the main thread.

    Args:
        folder: for their data.
        report: the folder that is kept.
        say: shows one line of progress.

    """
    postgres = EmbeddedPostgres(folder / "postgres", token=lambda: secrets.token_urlsafe(24), monotonic=monotonic)
    valkey = EmbeddedValkey(folder / "valkey", token=lambda: secrets.token_urlsafe(24), monotonic=monotonic)
    with postgres, valkey, TokenEndpointProcess(folder) as endpoint:
        server_url = postgres.start().reveal()
        assert postgres.process is not None
        database_url = create_database(server_url, "evergrant_bench")
        Schema(Secret(database_url), migrations_path()).upgrade()
        baseline_url = create_database(server_url, "baseline_bench")
        with psycopg.connect(baseline_url, autocommit=True) as connection:
            baseline_table.create(connection)
        yield World(
            folder=folder,
            report=report,
            server_url=server_url,
            database_url=database_url,
            baseline_url=baseline_url,
            broker_url=valkey.start().reveal(),
            postgres=postgres.process.pid,
            endpoint=endpoint,
            keys=generate_key("bench", os.urandom),
            say=say,
        )
