"""The database going away under a settle: tried again until it is stored, once, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.conftest import ContainerMaker
from tests.support.database import rows, value
from tests.support.sandbox_clients import SandboxClient, adopt, make_due, register
from tests.support.settling import claim, drain, every_kind, new_tokens, settle
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import until
from worker.bootstrap import Container
from worker.domain.grant import ClaimedGrant
from worker.domain.settlement import StoreTokens
from worker.sandbox.server import RunningSandbox
from worker.storage.sealing import ACCESS_TOKEN, REFRESH_TOKEN
from worker.storage.settle_queue import Settled
from worker.usecases.access_token import FreshToken

pytestmark = pytest.mark.anyio

PATIENCE = 20.0
#: Seconds between cuts: some find a claim under way, some a settle, some a pool of idle connections.
CUT_AFTER = (0.02, 0.03, 0.05, 0.08, 0.13, 0.02, 0.03, 0.05, 0.08, 0.13)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A worker whose database lies behind a proxy, and somebody who has a way around it."""

    client: SandboxClient
    database: TcpProxy
    worker: Container
    onlooker: Container


@asynccontextmanager
async def scene(client: SandboxClient, make_container: ContainerMaker, database_url: str) -> AsyncIterator[Scene]:
    """Set everything up."""
    with TcpProxy(database_url) as database:
        async with (
            make_container(client.toml, database=database.url, **client.environment) as worker,
            make_container(client.toml, **client.environment) as onlooker,
        ):
            yield Scene(client=client, database=database, worker=worker, onlooker=onlooker)


async def test_rotations_outlast_a_database_that_is_away(
    sandbox: RunningSandbox, make_container: ContainerMaker, database_url: str
) -> None:
    """Twenty answers that arrive while the database is away are all stored when it is back, and none is repeated."""
    with TcpProxy(sandbox.url) as provider:
        client = register(sandbox, token_endpoint_at=provider.url)
        async with scene(client, make_container, database_url) as found:
            adopted = await adopt(found.onlooker, sandbox, client, 20)
            claimed = (await claim(found.worker, client, 20)).grants
            configured = found.worker.configuration.registry.client(client.name)
            provider.hold()
            rotating = [asyncio.create_task(found.worker.rotation.rotate(grant, configured)) for grant in claimed]
            await until(lambda: provider.held == 20, PATIENCE, "all requests are answered")

            found.database.refuse()
            provider.release()
            await until(lambda: found.database.refused > 1, PATIENCE, "the settle was tried again")
            assert not any(task.done() for task in rotating)
            found.database.accept()

            assert {result.settled for result in await asyncio.gather(*rotating)} == {Settled.STORED}
            states = await rows(found.onlooker, "SELECT DISTINCT state, generation, leased_until FROM grants")
            assert [tuple(row) for row in states] == [("active", 1, None)]
            assert await value(found.onlooker, "SELECT count(*) FROM rotations") == 20
            for grant_id, seeded in adopted[:3]:
                fresh = await found.worker.access_tokens.refresh(grant_id)
                assert isinstance(fresh, FreshToken), "the stored refresh token is the one that the provider takes"
                assert sandbox.control.account_of(fresh.access_token) == seeded.account
    assert sandbox.control.report().presented_more_than_once == 0


async def test_a_drain_outlasts_connections_that_are_cut_again_and_again(
    sandbox: RunningSandbox, make_container: ContainerMaker, database_url: str
) -> None:
    """Whatever moment a connection breaks in, every grant that was refreshed is stored and none is spent twice."""
    # Narrow is the process, and not the client: a lost claim holds its client's places until the rescue.
    client = register(sandbox, client="max_in_flight = 1000\n[worker]\nmax_in_flight = 8")
    async with scene(client, make_container, database_url) as found:
        await adopt(found.onlooker, sandbox, client, 30)
        draining = asyncio.create_task(asyncio.wait_for(_drain_to_the_end(found), PATIENCE * 3))
        for delay in CUT_AFTER:
            await asyncio.wait([draining], timeout=delay)
            found.database.cut()
        await draining

        # A claim whose commit was not acknowledged is nobody's: nothing of it was presented, and the rescue has it.
        left = await rows(found.onlooker, "SELECT * FROM grants WHERE generation = 0")
        assert {row.leased_until is not None for row in left} <= {True}
        stored = await value(found.onlooker, "SELECT count(*) FROM grants WHERE generation = 1 AND state = 'active'")
        assert stored + len(left) == 30
        assert await value(found.onlooker, "SELECT count(*) FROM rotations") == stored
    report = sandbox.control.report()
    assert (report.rotations, report.presented_more_than_once) == (stored, 0)


async def test_a_killed_backend_is_survived_in_the_middle_of_the_statement(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """A settle whose server process is ended while it waits for the row is made again, and is stored once."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        await adopt(container, sandbox, client)
        [grant] = (await claim(container, client, 1)).grants
        waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        async with container.engine.connect() as holder:
            await holder.exec_driver_sql("SELECT * FROM grants FOR UPDATE")
            settling = asyncio.create_task(settle(container, grant, new_tokens(grant.claimed_at)))
            await until(lambda: rows(container, waiting), PATIENCE, "the settle waits for the row")
            pid = await value(container, waiting)
            await rows(container, "SELECT pg_terminate_backend(:pid)", pid=pid)
            again = f"{waiting} AND pid <> {pid}"
            await until(lambda: rows(container, again), PATIENCE, "another backend waits for it")
            await holder.rollback()

        assert await settling is Settled.STORED
        assert await value(container, "SELECT generation FROM grants") == 1
        assert await value(container, "SELECT count(*) FROM rotations") == 1


async def test_a_settle_that_is_broken_off_leaves_its_tokens_in_the_escrow(
    sandbox: RunningSandbox, make_container: ContainerMaker, database_url: str
) -> None:
    """A process that goes while a commit hangs does not wait for it; what was read is kept, and stored later."""
    client = register(sandbox)
    async with scene(client, make_container, database_url) as found:
        await adopt(found.onlooker, sandbox, client, 1)
        [grant] = (await claim(found.worker, client, 1)).grants
        found.database.hold()
        settling = asyncio.create_task(settle(found.worker, grant, new_tokens(grant.claimed_at)))
        await asyncio.sleep(0)

        settling.cancel()
        await asyncio.gather(settling, return_exceptions=True)

        assert settling.cancelled()
        assert found.worker.rotation.settles.is_kept(grant.lease)
        found.database.release()
        await found.worker.dispatch.drain_escrow()
        assert await value(found.onlooker, "SELECT generation FROM grants") == 1


async def test_a_process_that_goes_keeps_what_waits(
    sandbox: RunningSandbox, make_container: ContainerMaker, database_url: str
) -> None:
    """When a worker's time is up, what is read and not stored is in the escrow before anything is broken off."""
    client = register(sandbox)
    async with scene(client, make_container, database_url) as found:
        await adopt(found.onlooker, sandbox, client, 2)
        claimed = (await claim(found.worker, client, 2)).grants
        found.database.hold()
        settling = [asyncio.create_task(settle(found.worker, grant, new_tokens(grant.claimed_at))) for grant in claimed]
        await asyncio.sleep(0)

        await found.worker.rotation.settles.keep_what_waits()

        assert _all_kept(found.worker, claimed)
        assert not any(task.done() for task in settling)
        found.database.release()
        assert await asyncio.gather(*settling) == [Settled.STORED] * 2
        assert await found.worker.escrow.depth() == 0


async def test_a_commit_that_hangs_leaves_no_token_unkept(
    sandbox: RunningSandbox, make_container: ContainerMaker, database_url: str
) -> None:
    """While the database neither answers nor breaks off, the tokens lie in the escrow; they are stored once it does."""
    client = register(sandbox)
    async with scene(client, make_container, database_url) as found:
        await adopt(found.onlooker, sandbox, client, 3)
        claimed = (await claim(found.worker, client, 3)).grants
        found.database.hold()
        first = asyncio.create_task(settle(found.worker, claimed[0], new_tokens(claimed[0].claimed_at)))
        await until(lambda: found.worker.rotation.settles.is_kept(claimed[0].lease), PATIENCE, "the first is kept")
        later = [
            asyncio.create_task(settle(found.worker, grant, new_tokens(grant.claimed_at))) for grant in claimed[1:]
        ]
        await until(lambda: _all_kept(found.worker, claimed[1:]), PATIENCE, "those that come later are kept at once")
        assert not first.done()

        found.database.release()

        assert set(await asyncio.gather(first, *later)) == {Settled.STORED}
        assert await value(found.onlooker, "SELECT count(*) FROM grants WHERE generation = 1") == 3
        assert await found.worker.escrow.depth() == 0


async def test_tokens_that_no_home_took_are_kept_as_soon_as_one_does(
    sandbox: RunningSandbox, make_container: ContainerMaker, database_url: str, tmp_path: Path
) -> None:
    """Where the escrow is out of order, too, an operator who mends it first has the tokens on the disk at once."""
    client = register(sandbox)
    in_the_way = tmp_path / "home"
    in_the_way.write_text("no folder", encoding="utf-8")
    async with scene(client, make_container, database_url) as found:
        await adopt(found.onlooker, sandbox, client, 1)
        [grant] = (await claim(found.worker, client, 1)).grants
        with capture_logs() as log:
            found.database.refuse()
            settling = asyncio.create_task(settle(found.worker, grant, new_tokens(grant.claimed_at)))
            await until(lambda: "escrow_failed" in {told["event"] for told in log}, PATIENCE, "no home took it")
            assert not found.worker.rotation.settles.is_kept(grant.lease)

            in_the_way.unlink()

            await until(lambda: _all_kept(found.worker, [grant]), PATIENCE, "it is kept")
            assert not settling.done()
            found.database.accept()
            assert await settling is Settled.STORED
        assert await found.worker.escrow.depth() == 0


def _all_kept(container: Container, grants: Sequence[ClaimedGrant]) -> bool:
    return all(container.rotation.settles.is_kept(grant.lease) for grant in grants)


async def test_a_settle_whose_commit_was_not_acknowledged_is_recognised(
    sandbox: RunningSandbox, make_container: ContainerMaker, database_url: str
) -> None:
    """Tokens that were committed just before the connection broke are found stored, not taken for superseded."""
    client = register(sandbox)
    async with scene(client, make_container, database_url) as found:
        await adopt(found.onlooker, sandbox, client)
        [grant] = (await claim(found.worker, client, 1)).grants
        settlement = new_tokens(grant.claimed_at)
        found.database.lose_reply_to(b"COMMIT")

        assert await settle(found.worker, grant, settlement) is Settled.STORED

        assert found.database.replies_lost == 1
        [row] = await rows(found.onlooker, "SELECT * FROM grants")
        assert (row.generation, row.state, row.leased_until) == (1, "active", None)
        ring = found.onlooker.access_tokens.claims._keys
        assert ring.open(row.access_token, ACCESS_TOKEN, row.id) == settlement.tokens.access_token
        assert ring.open(row.refresh_token, REFRESH_TOKEN, row.id) == settlement.tokens.refresh_token
        assert await value(found.onlooker, "SELECT count(*) FROM rotations") == 1


async def test_no_kind_of_settle_counts_twice_when_its_commit_was_not_acknowledged(
    sandbox: RunningSandbox, make_container: ContainerMaker, database_url: str
) -> None:
    """Each settle that is made again after its commit leaves the row and the events as one settle does."""
    columns = "state, generation, strikes, failures, presentations, last_error, rotate_at, leased_until"
    events = "SELECT type, count(*) FROM events WHERE type <> 'grant.created' GROUP BY type"
    client = register(sandbox)
    async with scene(client, make_container, database_url) as found:
        await adopt(found.onlooker, sandbox, client, 12)
        await make_due(found.onlooker)
        claimed = (await claim(found.worker, client, 12)).grants
        at = claimed[0].claimed_at
        for once, repeated, kind in zip(claimed[:6], claimed[6:], every_kind(at), strict=True):
            await settle(found.onlooker, once, kind)
            told_once = await rows(found.onlooker, events)
            found.database.lose_reply_to(b"COMMIT")
            settled = await settle(found.worker, repeated, kind)

            wanted = await rows(found.onlooker, f"SELECT {columns} FROM grants WHERE id = '{once.lease.grant_id}'")
            row = await rows(found.onlooker, f"SELECT {columns} FROM grants WHERE id = '{repeated.lease.grant_id}'")
            assert row == wanted, kind
            assert settled is Settled.STORED or not isinstance(kind, StoreTokens)
            told_twice = {told.type: told.count for told in await rows(found.onlooker, events)}
            assert told_twice == {**told_twice, **{told.type: 2 for told in told_once}}
        assert found.database.replies_lost == 6


async def _drain_to_the_end(found: Scene) -> None:
    """Drain again and again, as tickets do, until nothing that could be claimed is left."""
    due = "SELECT id FROM grants WHERE rotate_at <= now() AND leased_until IS NULL"
    while await rows(found.onlooker, due):
        # A drain that loses its connection in a claim ends; the next ticket goes on.
        await asyncio.gather(drain(found.worker, found.client), return_exceptions=True)
