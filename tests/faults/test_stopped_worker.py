"""A worker that is stopped between the database's yes to its claim and reading it: its lease runs on meanwhile."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import pytest
from sqlalchemy import event

from tests.conftest import ContainerMaker
from tests.support.movable_clock import MovableClock
from tests.support.sandbox_clients import adopt, register
from worker.sandbox.server import RunningSandbox
from worker.storage.claim import Claims
from worker.usecases.rotate import database_instant, lease_covers

pytestmark = pytest.mark.anyio

LEASE: Final = timedelta(seconds=60)


async def test_a_lease_that_ran_out_before_the_claim_was_read(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """Time that passes before the worker reads its claim shortens its lease and makes no token's life longer."""
    client = register(sandbox)
    clock = MovableClock()
    async with make_container(client.toml, **client.environment) as container:
        configured = container.configuration.registry.client(client.name)
        await adopt(container, sandbox, client)
        claims = Claims(container.claim_engine, container.access_tokens.claims._keys, clock.tick)

        @event.listens_for(container.claim_engine, "commit")
        def _stopped(_connection: object) -> None:
            clock.stand_still(LEASE.total_seconds())

        [grant] = (await claims.claim_due(client.name, limits=configured.limits, free=1, lease=LEASE)).grants

        assert not lease_covers(grant, configured, clock.tick())
        assert database_instant(grant, clock.tick()) < grant.claimed_at + timedelta(seconds=5)
