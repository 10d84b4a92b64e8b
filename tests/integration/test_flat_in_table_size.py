"""What runs all the time costs the same however many grants there are: no plan of it reads a large table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import text

from tests.conftest import ContainerMaker
from tests.support.database import execute, rows, value
from tests.support.many_grants import MANY, fill
from tests.support.plans import Plans, plans_of
from tests.support.sandbox_clients import register
from tests.support.settling import every_kind
from worker.bootstrap import Container
from worker.domain.grant import Lease
from worker.sandbox.server import RunningSandbox
from worker.storage.brake import _COUNT, _REFRESHES, apply_brake
from worker.storage.claim import _CLAIM_CANARY
from worker.storage.client_figures import read_client_figures
from worker.storage.overview import read_overview
from worker.storage.sealed_settlement import seal_settlement
from worker.storage.sealing import KeyRing, generate_key, parse_keys
from worker.storage.settle import settle

pytestmark = pytest.mark.anyio

LARGE = {"grants", "rotations", "events", "adopted_tokens"}


async def test_nothing_reads_a_whole_table_in_the_steady_state(
    sandbox: RunningSandbox, make_container: ContainerMaker, database_url: str
) -> None:
    """With 200,000 grants, rotations and events: figures, page, tick, claim, settle, brake and prune use indexes."""
    client = register(sandbox)
    fill(database_url, client=client.name)
    async with make_container(client.toml, **client.environment) as container:
        engine = container.engine.sync_engine
        await execute(
            container,
            "INSERT INTO adopted_tokens (fingerprint, grant_id) SELECT 'k1:' || md5(CAST(id AS text)), id FROM grants",
        )
        with plans_of(engine) as asynchronous, plans_of(container.claim_engine) as blocking:
            figures = await read_client_figures(container.engine, [client.name])
            overview = await read_overview(container.engine, [client.name])
            await container.dispatch.dispatch()
            await container.access_tokens.claims.claim_due(
                client.name,
                limits=container.configuration.registry.client(client.name).limits,
                free=10,
                lease=timedelta(seconds=60),
            )
            settle_every_kind(container, client.name)
            removed = await container.dispatch.prune()

        mine = next(found for found in figures if found.client == client.name)
        assert (mine.overdue, mine.in_flight, mine.expired_access_tokens) == (MANY // 500, MANY // 1000, MANY // 500)
        assert (mine.total, sum(found.total for found in figures)) == (MANY // 2, MANY)
        assert overview.rotations_last_minute == await value(
            container, "SELECT count(*) FROM rotations WHERE at > :now - interval '60 seconds'", now=overview.now
        )
        assert removed == 200
        assert min(len(asynchronous.statements), len(blocking.statements)) > 10
        assert large(container, asynchronous) == {}
        assert large(container, blocking) == {}
        for reading in ("SELECT client, state, count(*) FROM grants GROUP BY 1, 2", "SELECT count(*) FROM grants"):
            with plans_of(engine) as plans:
                await rows(container, reading)
            assert large(container, plans).keys() == {"grants"}, "what reads all of it is noticed"


def settle_every_kind(container: Container, client: str) -> None:
    """Settle what is under no lease, so that nothing changes, and apply the brake."""
    keys = KeyRing(parse_keys(generate_key("test", bytes)), bytes)
    with container.claim_engine.connect() as connection:
        for settlement in every_kind(datetime.now(UTC)):  # noqa: TID251 -- any instant will do
            lease = Lease(grant_id=uuid4(), lease_id=uuid4(), generation=1)
            batch = [seal_settlement(lease, settlement, keys)]
            assert not settle(connection, apply_brake(connection, batch))
        # What stands in a function shows no plan of its own.
        count = "SELECT count(*) FROM grants WHERE client = :client AND leased_until IS NOT NULL"
        connection.execute(text(count), {"client": client})
        looked_for = {"client": client, "window": timedelta(minutes=10), "reason": "invalid_grant", "most": 100_000}
        assert connection.execute(_COUNT, looked_for).one().grants == MANY // 2
        connection.execute(_REFRESHES, {**looked_for, "enough": 3, "newest": 1_000})
        canary = {"client": client, "room": 1, "lease": timedelta(seconds=60), "leased_by": None}
        assert len(connection.execute(_CLAIM_CANARY, canary).all()) == 1
        connection.rollback()


def large(container: Container, plans: Plans) -> dict[str, set[str]]:
    """Return the large tables that were read as a whole, and by what."""
    return {table: by for table, by in plans.read_as_a_whole(container.claim_engine).items() if table in LARGE}
