"""An installation as an operator has one: a configuration, a key ring, a migrated database, and the command line."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import UUID, uuid4

import psycopg
from prometheus_client import CollectorRegistry

from tests.support.command_line import CommandLine, Ended, run_each
from tests.support.database import create_database
from tests.support.loaded_command_line import LoadedCommandLine
from tests.support.sandbox_clients import SECRET, register
from worker.bootstrap import create_container
from worker.domain.secret import Secret
from worker.sandbox.control import SeededGrant
from worker.sandbox.server import RunningSandbox
from worker.settings import load_settings
from worker.storage.sealing import ACCESS_TOKEN, REFRESH_TOKEN, KeyRing, generate_key, parse_keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """What the operator's commands work on. `client` is its one client, at the sandbox."""

    command_line: CommandLine
    loaded: LoadedCommandLine
    sandbox: RunningSandbox
    client: str
    database_url: str
    keys: Secret
    template: str

    def run(self, *arguments: str, stdin: str = "") -> Ended:
        """Run one command and see that it shows no secret, unless it is the one that prints a token."""
        return self._checked(arguments, self.command_line.run(*arguments, stdin=stdin))

    def run_all(self, *commands: Sequence[str]) -> list[Ended]:
        """Run commands that do not depend on each other, a few at once, with the same check."""
        ended = run_each([(self.command_line, arguments) for arguments in commands])
        return [self._checked(arguments, found) for arguments, found in zip(commands, ended, strict=True)]

    def run_quickly(self, *arguments: str, stdin: str = "", changes: Mapping[str, str | None] | None = None) -> Ended:
        """Run one command in a fork of an interpreter that has loaded it, with the same check.

        Args:
            arguments: the command.
            stdin: what it reads.
            changes: environment variables that differ, None for those that are left out.

        """
        command_line = self.command_line.having(**(changes or {}))
        return self._checked(arguments, self.loaded.run(command_line, *arguments, stdin=stdin))

    def at(self, database_url: str, keys: Secret | None = None) -> Installation:
        """Return the same with another database, and another key ring where one is given."""
        ring = keys or self.keys
        changed = self.command_line.having(EVERGRANT_DATABASE_URL=database_url, EVERGRANT_KEYS=ring.reveal())
        return replace(self, command_line=changed, database_url=database_url, keys=ring)

    def having(self, **changes: str | None) -> Installation:
        """Return the same with some environment variables changed, and those that are None left out."""
        return replace(self, command_line=self.command_line.having(**changes))

    def on_a_database_of_its_own(self) -> Installation:
        """Return the same on an empty, migrated database."""
        name = f"own_{uuid4().hex}"
        return self.at(create_database(self.database_url, name, template=self.template))

    def seed(self) -> SeededGrant:
        """Make a grant at the provider whose account nobody has adopted yet."""
        [grant] = self.sandbox.control.seed_grants(self.client, 1, account_prefix=f"{uuid4().hex}-")
        return grant

    def adopt(self, grant: SeededGrant) -> str:
        """Adopt a grant with both tokens, in this process, and return its id."""

        async def work() -> UUID:
            settings = load_settings(self.command_line.environment)
            container = create_container(
                settings, name="test", environment=self.command_line.environment, registry=CollectorRegistry()
            )
            try:
                grant_id, _arrival = await container.adoption.adopt(
                    self.client,
                    grant.account,
                    refresh_token=grant.refresh_token,
                    access_token=grant.access_token,
                    expires_in=timedelta(seconds=grant.expires_in),
                )
                return grant_id
            finally:
                await container.close()

        return str(asyncio.run(work()))

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Run one statement on the database and return what it finds, if it finds rows."""
        with psycopg.connect(self.database_url) as connection:
            found = connection.execute(statement)
            return found.fetchall() if found.description is not None else []

    def secrets(self) -> set[str]:
        """Return every secret there is, with all tokens that are stored now."""
        keys = self._keys()
        ring = KeyRing(keys, os.urandom)
        stored = self.query("SELECT id, access_token, refresh_token FROM grants")
        opened = [ring.open(refresh_token, REFRESH_TOKEN, row) for row, _, refresh_token in stored if refresh_token]
        opened += [ring.open(access_token, ACCESS_TOKEN, row) for row, access_token, _ in stored if access_token]
        return {
            SECRET,
            str(urlsplit(self.database_url).password),
            *(key.reveal() for key in keys.values()),
            *(token.reveal() for token in opened),
        }

    def _keys(self) -> dict[str, Secret]:
        """Return the keys that it began with and those of its file, where it has one."""
        path = self.command_line.environment.get("EVERGRANT_KEYS_FILE")
        return parse_keys(self.keys) | (parse_keys(Secret(Path(path).read_text().strip())) if path else {})

    def _checked(self, arguments: Sequence[str], ended: Ended) -> Ended:
        said = ended.err if arguments[0] == "token" else ended.out + ended.err
        for secret in self.secrets():
            assert secret not in said
            assert quote(secret, safe="") not in said
        return ended


def lines(grant: SeededGrant) -> str:
    """Return what `grants add` reads: the refresh token, and the access token on the next line."""
    return f"{grant.refresh_token.reveal()}\n{grant.access_token.reveal()}\n"


@contextmanager
def installed(folder: Path, database_server: str, migrated_template: str) -> Iterator[Installation]:
    """Set one up in a folder, with a sandbox beside it."""
    with RunningSandbox() as sandbox, LoadedCommandLine() as loaded:
        client = register(sandbox)
        configuration = folder / "evergrant.toml"
        configuration.write_text(client.toml, encoding="utf-8")
        database_url = create_database(database_server, f"installed_{uuid4().hex}", template=migrated_template)
        keys = generate_key("k1", os.urandom)
        environment = {
            "EVERGRANT_DATABASE_URL": database_url,
            "EVERGRANT_KEYS": keys.reveal(),
            "EVERGRANT_CONFIG": str(configuration),
            "EVERGRANT_HOME_DIR": str(folder / "home"),
            **client.environment,
        }
        yield Installation(
            command_line=CommandLine(folder=folder, environment=environment),
            loaded=loaded,
            sandbox=sandbox,
            client=client.name,
            database_url=database_url,
            keys=keys,
            template=migrated_template,
        )
