"""Two workers on one database before one sandbox, with a client for each way in which refresh tokens behave."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Self, TypeVar
from uuid import UUID

from prometheus_client import CollectorRegistry
from sqlalchemy import Row, text

from tests.support.movable_clock import MovableClock
from tests.support.sandbox_clients import SECRET, SandboxClient, register
from tests.support.waiting import until
from worker.bootstrap import Container, create_container
from worker.domain.secret import Secret
from worker.oauth.client import Client
from worker.oauth.token_endpoint import TokenEndpoint
from worker.sandbox.behaviour import Behaviour, Rotation
from worker.sandbox.control import SeededGrant
from worker.sandbox.profiles import RFC6749
from worker.sandbox.server import RunningSandbox
from worker.settings import Settings
from worker.storage.claim import Claims
from worker.storage.presence import PRESENCE
from worker.storage.rescue import Rescued, rescue_abandoned_leases
from worker.storage.sealing import REFRESH_TOKEN, KeyRing, parse_keys
from worker.usecases.rotate import Rotation as Rotating

T = TypeVar("T")

SINGLE_USE: Final = "single-use"
GRACE: Final = "reuse-grace"
UNTIL_NEW_USED: Final = "until-new-used"
NEVER_ROTATED: Final = "never-rotated"
CLIENTS: Final = (SINGLE_USE, GRACE, UNTIL_NEW_USED, NEVER_ROTATED)
WORKERS: Final = (0, 1)
GRANTS_PER_CLIENT: Final = 2
#: Longer than a test: the facts say 30 s, and only they decide, for the sandbox's clock cannot be moved.
_SANDBOX_GRACE: Final = 3600.0
#: Chance: low, middling and high in turns.
_DRAWS: Final = (0.5, 0.0, 0.99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One worker's own connections, number and pieces, on the clock that can be moved."""

    container: Container
    claims: Claims
    rotation: Rotating


class GrantWorld:
    """Everything that a run of the state machine happens to, made once and emptied for each run.

    Args:
        sandbox: where the clients are registered.
        database_url: a migrated database of its own.
        keys: the key ring.
        folder: for the configuration and the escrow.

    """

    def __init__(self, sandbox: RunningSandbox, *, database_url: str, keys: Secret, folder: Path) -> None:
        self.sandbox = sandbox
        self.control = sandbox.control
        self.clock = MovableClock()
        self.key_ring = KeyRing(parse_keys(keys), os.urandom)
        self.double_spends_before = 0
        self.happened: Counter[str] = Counter()  #: over all runs, so that a test can tell what it has tried
        self._numbers = itertools.count(1)
        self._draws = itertools.cycle(_DRAWS)
        self._folder = folder
        self._settings = (database_url, keys)

    def __enter__(self) -> Self:
        self._runner = asyncio.Runner()
        registered = _register(self.sandbox)
        configuration = self._folder / "evergrant.toml"
        configuration.write_text("\n".join(client.toml for client in registered), encoding="utf-8")
        database_url, keys = self._settings
        settings = Settings(
            database_url=Secret(database_url), keys=keys, config=configuration, home_dir=self._folder / "home"
        )
        self.workers = [self.run(self._wire(settings, f"worker {number}")) for number in WORKERS]
        return self

    def __exit__(self, *_error: object) -> None:
        for worker in self.workers:
            self.run(worker.container.close())
        self._runner.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run work on the world's event loop."""
        return self._runner.run(work)

    def draw(self) -> float:
        """Return chance in [0, 1), the same for the same run."""
        return next(self._draws)

    def client(self, name: str) -> Client:
        """Return a client as configured."""
        return self.workers[0].container.configuration.registry.client(name)

    async def begin(self) -> dict[UUID, SeededGrant]:
        """Take away what an earlier run left, and adopt grants that live for an hour."""
        self._draws = itertools.cycle(_DRAWS)
        for placed in self.control.standing_orders():
            self.control.cancel_order(placed.order_id)
        await self.execute("TRUNCATE grants, client_status, events, rotations RESTART IDENTITY")
        adopted: dict[UUID, SeededGrant] = {}
        for name in CLIENTS:
            self.right_secret(name, right=True)
            for seeded in self.seed(name, GRANTS_PER_CLIENT):
                grant_id, _arrival = await self.workers[0].container.adoption.adopt(
                    name,
                    seeded.account,
                    refresh_token=seeded.refresh_token,
                    access_token=seeded.access_token,
                    expires_in=timedelta(seconds=seeded.expires_in),
                )
                adopted[grant_id] = seeded
        self.double_spends_before = self.control.report().double_spends
        return adopted

    def seed(self, name: str, count: int, *, first_number: int | None = None) -> list[SeededGrant]:
        """Make grants at the sandbox, for new accounts unless the first one's number is given."""
        if first_number is None:
            first_number = next(self._numbers)
            for _ in range(count - 1):
                next(self._numbers)
        return self.control.seed_grants(name, count, first_number=first_number)

    def right_secret(self, name: str, *, right: bool) -> None:
        """Let the provider take our client secret, or another one."""
        self.control.change_secret(name, Secret(SECRET if right else "rotated without telling us"))

    async def rows(self) -> dict[UUID, Row[Any]]:
        """Return every grant as it is stored."""
        async with self.workers[0].container.engine.connect() as connection:
            found = await connection.execute(text("SELECT * FROM grants"))
            return {row.id: row for row in found}

    def refresh_token(self, row: Row[Any]) -> Secret:
        """Open a row's refresh token."""
        return self.key_ring.open(row.refresh_token, REFRESH_TOKEN, row.id)

    async def execute(self, statement: str, **parameters: object) -> None:
        """Run one statement behind the workers' back."""
        async with self.workers[0].container.engine.begin() as connection:
            await connection.execute(text(statement), parameters)

    async def rescue(self) -> Rescued:
        """Do what a tick does about dead workers."""
        container = self.workers[0].container
        facts = {name: self.client(name).provider.facts for name in CLIENTS}
        return await rescue_abandoned_leases(container.engine, facts, self.draw)

    async def lose_session(self, number: int) -> None:
        """End the session that vouches for a worker's leases, and return when PostgreSQL knows."""
        presence = self.workers[number].container.presence
        gone = presence.worker
        await presence.release()

        async def unheld() -> bool:
            async with self.workers[1 - number].container.engine.connect() as connection:
                found = await connection.execute(
                    text(
                        "SELECT count(*) FROM pg_locks WHERE classid = CAST(:key AS oid) AND objid = CAST(:id AS oid)"
                    ),
                    {"key": PRESENCE, "id": gone},
                )
                return bool(found.scalar_one() == 0)

        await until(unheld, 10.0, "the session's lock is gone")

    async def _wire(self, settings: Settings, name: str) -> Worker:
        container = create_container(
            settings, name=name, environment={"CLIENT_SECRET": SECRET}, registry=CollectorRegistry()
        )
        await container.presence.take()
        tick: Callable[[], float] = self.clock.tick
        return Worker(
            container=container,
            claims=Claims(container.claim_engine, self.key_ring, tick, lambda: container.presence.worker),
            rotation=replace(
                container.rotation, tick=tick, draw=self.draw, token_endpoint=TokenEndpoint(container.http, tick)
            ),
        )


def _register(sandbox: RunningSandbox) -> list[SandboxClient]:
    never = register(sandbox, name=NEVER_ROTATED, profile=RFC6749, behaviour=Behaviour(rotation=Rotation.NEVER))
    return [
        register(sandbox, name=SINGLE_USE, behaviour=Behaviour()),
        register(
            sandbox,
            name=GRACE,
            profile=RFC6749,
            behaviour=Behaviour(reuse_grace=_SANDBOX_GRACE),
            provider='old_token = "grace"\nreuse_grace = "30s"',
        ),
        register(
            sandbox,
            name=UNTIL_NEW_USED,
            profile=RFC6749,
            behaviour=Behaviour(reuse_grace=_SANDBOX_GRACE, grace_ends_on_use=True, reuse_revokes_family=False),
            provider='old_token = "until_new_used"',
        ),
        replace(never, toml=never.toml.replace('rotation = "always"', 'rotation = "never"')),
    ]
