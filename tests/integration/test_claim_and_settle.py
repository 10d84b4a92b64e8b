"""The guarded statements: who may claim, when not, and what a settle may write over what."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from tests.conftest import ContainerMaker
from tests.support.database import end_other_sessions, execute, rows, value
from tests.support.sandbox_clients import SandboxClient, adopt, make_due, register
from tests.support.settling import LEASE, claim, drain, every_kind, new_tokens, settle
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import until
from worker.bootstrap import Container
from worker.domain.grant import ClaimedGrant, GrantState
from worker.domain.outcome import Cause, Reason
from worker.domain.secret import Secret
from worker.domain.settlement import EnterDoubt, HandBack
from worker.sandbox.server import RunningSandbox
from worker.storage.new_grants import NewGrant
from worker.storage.sealing import ACCESS_TOKEN, generate_key
from worker.storage.settle_queue import Settled
from worker.usecases.access_token import FreshToken
from worker.usecases.drain import CLAIM_LIMIT

pytestmark = pytest.mark.anyio

PATIENCE = 20.0


async def test_a_connection_that_was_closed_costs_no_claim(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """After a failover has ended every session, the next claim is made as ever."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        await adopt(container, sandbox, client, 2)
        first = await claim(container, client, 1)
        await end_other_sessions(container)

        second = await claim(container, client, 1)

        assert (len(first.grants), len(second.grants)) == (1, 1)


async def test_two_processes_never_claim_the_same_grant(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """Eight claimers over two processes share 200 due grants out among them, each grant to exactly one."""
    client = register(sandbox, client="max_in_flight = 1000")
    async with (
        make_container(client.toml, **client.environment) as first,
        make_container(client.toml, **client.environment) as second,
    ):
        adopted = await adopt(first, sandbox, client, 200)

        async def claim_all(container: Container) -> list[UUID]:
            ids: list[UUID] = []
            while found := (await claim(container, client, 7)).grants:
                ids += [grant.lease.grant_id for grant in found]
            return ids

        shares = await asyncio.gather(*(claim_all(container) for container in (first, second) for _ in range(4)))

        claimed = [grant_id for share in shares for grant_id in share]
        assert len(claimed) == 200
        assert set(claimed) == {grant_id for grant_id, _ in adopted}
        assert (
            await value(first, "SELECT count(DISTINCT lease_id) FROM grants WHERE spend_started_at IS NOT NULL") == 200
        )


async def test_the_earliest_due_is_claimed_first(sandbox: RunningSandbox, make_container: ContainerMaker) -> None:
    """In and over claims of any size, grants come in the order in which they are due, and not before they are."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        await adopt(container, sandbox, client, 40)
        # Shuffled against the order of insertion, half of them in the future.
        await execute(
            container,
            "UPDATE grants SET rotate_at = now() + make_interval(mins => n - 20) FROM (SELECT id AS shuffled,"
            " row_number() OVER (ORDER BY md5(id::text))::int AS n FROM grants) AS order_drawn WHERE id = shuffled",
        )
        due = [
            row.id for row in await rows(container, "SELECT id FROM grants WHERE rotate_at <= now() ORDER BY rotate_at")
        ]

        claimed = [
            grant.lease.grant_id for free in (1, 2, 5, 3, 50) for grant in (await claim(container, client, free)).grants
        ]

        assert len(due) == 20
        assert claimed == due


async def test_rate_and_concurrency_hold_over_two_processes(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """However many processes ask, a client's rate and `max_in_flight` are not exceeded, and places come back."""
    quick = register(sandbox, name="quick", client='rate = "20/s"')
    slow = register(sandbox, name="slow", client='rate = "1/m"')
    narrow = register(sandbox, name="narrow", client="max_in_flight = 10")
    toml, environment = quick.toml + slow.toml + narrow.toml, narrow.environment
    async with make_container(toml, **environment) as first, make_container(toml, **environment) as second:
        for client, count in ((quick, 60), (slow, 3), (narrow, 30)):
            await adopt(first, sandbox, client, count)

        async def claim_at_once(client: SandboxClient) -> list[ClaimedGrant]:
            found = await asyncio.gather(*(claim(container, client, 8) for container in (first, second)))
            return [grant for claimed in found for grant in claimed.grants]

        taken = await claim_at_once(quick)
        while len(taken) < 30:
            taken += await claim_at_once(quick)
            elapsed = max(grant.claimed_at for grant in taken) - min(grant.claimed_at for grant in taken)
            assert len(taken) <= 20 + 20 * elapsed.total_seconds(), "a bucket of one second's worth, and what flows in"

        assert len(await claim_at_once(slow)) == 1
        held = await claim(second, slow, 8)
        assert (held.grants, held.held) == ((), True)
        assert held.wait is not None
        assert timedelta(seconds=30) < held.wait <= timedelta(minutes=1)

        leased = await claim_at_once(narrow)
        assert len(leased) == 10
        assert (await claim(second, narrow, 8)).grants == ()
        await settle(second, leased[0], HandBack(cause=Cause(reason=Reason.RATE_LIMITED)))
        assert len(await claim_at_once(narrow)) == 1


async def test_a_claim_that_waited_counts_what_was_claimed_meanwhile(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """Whoever waits for a client's row counts as in flight what its former holder has leased before it let go."""
    client = register(sandbox, client="max_in_flight = 10")
    async with make_container(client.toml, **client.environment) as container:
        await adopt(container, sandbox, client, 20)
        await claim(container, client, 1)
        waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

        async def is_waiting() -> bool:
            return bool(await value(container, waits))

        async with container.engine.begin() as other:
            await other.execute(text("SELECT FROM client_status FOR UPDATE"))
            waiting = asyncio.create_task(claim(container, client, 20))
            await until(is_waiting, PATIENCE, "the claim waits for the client's row")
            await other.execute(
                text(
                    "UPDATE grants SET leased_until = now() + interval '1 min', lease_id = gen_random_uuid()"
                    " WHERE id IN (SELECT id FROM grants WHERE leased_until IS NULL LIMIT 6)"
                )
            )

        assert len((await waiting).grants) == 10 - 1 - 6


async def test_an_expired_lease_goes_in_doubt_and_never_back_to_the_queue(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """A claimed grant is nobody else's even after its lease; two rescuers at once put it in doubt once."""
    client = register(sandbox)
    async with (
        make_container(client.toml, **client.environment) as first,
        make_container(client.toml, **client.environment) as second,
    ):
        [(grant_id, _), *_more] = await adopt(first, sandbox, client, 20, due=False)
        await make_due(first)
        assert len((await claim(first, client, 20, timedelta(milliseconds=1))).grants) == 20
        assert await value(first, "SELECT count(*) FROM grants WHERE leased_until < clock_timestamp()") == 20

        assert (await claim(second, client, 20)).grants == ()
        limits = second.configuration.registry.client(client.name).limits
        one = await second.access_tokens.claims.claim_one(
            grant_id, client.name, generation=0, rotated_at=None, limits=limits, lease=LEASE
        )
        assert one.grants == ()

        assert not any(await asyncio.gather(first.dispatch.dispatch(), second.dispatch.dispatch())), "nothing is due"

        found = await rows(
            first, "SELECT *, rotate_at < access_expires_at AS probed, rotate_at > now() AS later FROM grants"
        )
        assert {(row.state, row.state_reason, row.presentations) for row in found} == {("in_doubt", "worker_died", 1)}
        assert {(row.leased_until, row.spend_started_at, row.probed, row.later) for row in found} == {
            (None, None, True, True)
        }
        assert await value(first, "SELECT count(*) FROM events WHERE type = 'grant.in_doubt'") == 20
        assert (await claim(second, client, 20)).grants == ()
    assert sandbox.control.report().refreshes_presented == 0


@contextmanager
def provider_through_proxy(sandbox: RunningSandbox, provider: str = "") -> Iterator[tuple[TcpProxy, SandboxClient]]:
    """Register a client whose token endpoint's answers can be kept back."""
    with TcpProxy(sandbox.url) as proxy:
        yield proxy, register(sandbox, provider=provider, token_endpoint_at=proxy.url)


async def test_a_late_answer_after_the_rescue_still_lands(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """The answer of a worker that was believed dead ends the doubt, and its tokens are the ones in use."""
    with provider_through_proxy(sandbox) as (proxy, client):
        async with make_container(client.toml, **client.environment) as container:
            [(grant_id, seeded)] = await adopt(container, sandbox, client)
            proxy.hold()
            draining = asyncio.create_task(drain(container, client))
            await until(lambda: proxy.held, PATIENCE, "the refresh is answered")
            await execute(container, "UPDATE grants SET leased_until = now() - interval '1 second'")
            await container.dispatch.dispatch()
            rescued = await container.grants.show(grant_id)
            assert rescued is not None
            assert rescued.state is GrantState.IN_DOUBT

            proxy.release()
            await draining

            [row] = await rows(container, "SELECT * FROM grants")
            assert (row.state, row.state_reason, row.generation) == ("active", None, 1)
            assert (row.presentations, row.doubt_since, row.lease_id) == (0, None, None)
            again = await container.access_tokens.refresh(grant_id)
            assert isinstance(again, FreshToken)
            assert sandbox.control.account_of(again.access_token) == seeded.account
    assert sandbox.control.report().presented_more_than_once == 0


async def test_a_lost_answer_after_the_rescue_counts_once(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """A presentation that the rescue has noted is not noted again by its worker, which comes back without an answer."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        await adopt(container, sandbox, client)
        [grant] = (await claim(container, client, 1, timedelta(milliseconds=1))).grants
        await container.dispatch.dispatch()
        before = await rows(container, "SELECT * FROM grants")

        lost = EnterDoubt(cause=Cause(reason=Reason.TIMEOUT), rotate_at=grant.claimed_at)
        assert await settle(container, grant, lost) is Settled.SUPERSEDED

        assert await rows(container, "SELECT * FROM grants") == before
        assert await value(container, "SELECT count(*) FROM events WHERE type = 'grant.in_doubt'") == 1


async def test_a_late_answer_fills_no_grant_whose_tokens_were_erased(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """Once an operator has read that a grant is revoked, no answer of a worker that was cut off brings tokens back."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        [(grant_id, _)] = await adopt(container, sandbox, client)
        [grant] = (await claim(container, client, 1, timedelta(milliseconds=1))).grants
        await container.dispatch.dispatch()
        acts = container.operations.acts
        assert await acts.revoke(grant_id)
        assert await acts.erase_secrets(grant_id, grant.lease.generation)

        assert await settle(container, grant, new_tokens(grant.claimed_at)) is Settled.SUPERSEDED

        [row] = await rows(container, "SELECT state, access_token, refresh_token FROM grants")
        assert tuple(row) == ("revoked", None, b"")


@pytest.mark.parametrize("state", ["paused", "revoked"])
async def test_an_operators_will_in_flight_is_kept_and_so_are_the_new_tokens(
    sandbox: RunningSandbox, make_container: ContainerMaker, state: str
) -> None:
    """A grant that is paused or revoked while its refresh is under way stays so, with the tokens that came."""
    with provider_through_proxy(sandbox) as (proxy, client):
        async with make_container(client.toml, **client.environment) as container:
            [(grant_id, seeded)] = await adopt(container, sandbox, client)
            proxy.hold()
            draining = asyncio.create_task(drain(container, client))
            await until(lambda: proxy.held, PATIENCE, "the refresh is answered")
            await execute(container, "UPDATE grants SET state = :state, rotate_at = NULL", state=state)
            proxy.release()
            await draining

            [row] = await rows(container, "SELECT * FROM grants")
            assert (row.state, row.rotate_at, row.generation, row.leased_until) == (state, None, 1, None)
            held = await container.held_tokens.of_grant(grant_id)
            assert held is not None
            assert held.access_token is not None
            assert sandbox.control.account_of(held.access_token) == seeded.account


@pytest.mark.parametrize("state", ["paused", "revoked"])
async def test_an_operators_will_in_flight_outlives_bad_news(
    sandbox: RunningSandbox, make_container: ContainerMaker, state: str
) -> None:
    """Neither a death nor a doubt that comes in afterwards changes a paused or revoked grant's state, or is told."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        await adopt(container, sandbox, client, 6)
        claimed = (await claim(container, client, 6)).grants
        await execute(container, "UPDATE grants SET state = :state, rotate_at = NULL", state=state)

        settlements = every_kind(claimed[0].claimed_at)
        settled = await asyncio.gather(*map(settle, [container] * 6, claimed, settlements))

        assert set(settled) == {Settled.STORED}
        found = await rows(container, "SELECT * FROM grants")
        assert {(row.state, row.state_reason, row.rotate_at) for row in found} == {(state, None, None)}
        assert {row.type for row in await rows(container, "SELECT type FROM events")} == {"grant.created"}


async def test_a_settle_after_a_new_consent_overwrites_nothing(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """Whatever came of a refresh, it is superseded where the owner has authorized again meanwhile."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        await adopt(container, sandbox, client, 6)
        claimed = (await claim(container, client, 6)).grants
        at = claimed[0].claimed_at
        for grant in claimed:
            consented = NewGrant(
                client=client.name,
                subject=grant.subject,
                refresh_token=Secret("consented"),
                access_token=Secret("consented"),
                issued_at=at,
                access_expires_at=at,
                refresh_expires_at=None,
                rotate_at=at,
                scopes=None,
                email=None,
            )
            await container.consent_store.consents.store_consent(uuid4(), consented, at)
        before = await rows(container, "SELECT * FROM grants ORDER BY id")

        settled = [await settle(container, grant, kind) for grant, kind in zip(claimed, every_kind(at), strict=True)]

        assert set(settled) == {Settled.SUPERSEDED}
        assert await rows(container, "SELECT * FROM grants ORDER BY id") == before
        assert await rows(container, "SELECT * FROM rotations") == []


async def test_a_settle_is_whole_or_not_at_all_and_spares_its_neighbours(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """Of settles that share a commit, one that the database refuses leaves its row untouched; the others are stored."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        await adopt(container, sandbox, client, 10)
        claimed = (await claim(container, client, 10)).grants
        refused = claimed[4]
        query = f"SELECT * FROM grants WHERE id = '{refused.lease.grant_id}'"
        before = await rows(container, query)
        # The row's own UPDATE would pass: what fails is the note of the rotation, in the same statement.
        await execute(
            container,
            f"ALTER TABLE rotations ADD CONSTRAINT refused CHECK (grant_id <> '{refused.lease.grant_id}')",
        )

        settlements = [new_tokens(grant.claimed_at) for grant in claimed]
        settled = await asyncio.gather(*map(settle, [container] * 10, claimed, settlements), return_exceptions=True)

        assert isinstance(settled.pop(4), IntegrityError)
        assert set(settled) == {Settled.STORED}
        assert await rows(container, query) == before
        assert await value(container, "SELECT count(*) FROM rotations") == 9

        await execute(container, "ALTER TABLE rotations DROP CONSTRAINT refused")
        assert await settle(container, refused, settlements[4]) is Settled.STORED
        ring = container.access_tokens.claims._keys
        for row in await rows(container, "SELECT id, access_token FROM grants"):
            place = next(place for place, grant in enumerate(claimed) if grant.lease.grant_id == row.id)
            assert ring.open(row.access_token, ACCESS_TOKEN, row.id) == settlements[place].tokens.access_token


async def test_a_key_ring_that_does_not_open_changes_no_grant(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """With another ring the grants are handed back and the breaker opens; the right ring's canary closes it again."""
    client = register(sandbox)
    other = generate_key("other", lambda size: bytes(range(size)))
    columns = "id, state, generation, strikes, failures, rotate_at, lease_id, leased_until, refresh_token"
    async with (
        make_container(client.toml, **client.environment) as right,
        make_container(client.toml, key_ring=other, **client.environment) as wrong,
    ):
        await adopt(right, sandbox, client, 5)
        before = await rows(right, f"SELECT {columns} FROM grants ORDER BY id")

        assert await drain(wrong, client) == 0
        assert await drain(wrong, client) == 0

        assert await rows(right, f"SELECT {columns} FROM grants ORDER BY id") == before
        [status] = await rows(right, "SELECT * FROM client_status")
        assert (status.breaker_opened_at is not None, status.breaker_reason) == (True, "unreadable_token")
        assert await right.dispatch.dispatch() == []
        [paused] = await rows(right, "SELECT type, client, data FROM events WHERE type <> 'grant.created'")
        assert (paused.type, paused.client, paused.data["reason"]) == ("client.paused", client.name, "unreadable_token")
        assert sandbox.control.report().refreshes_presented == 0

        await execute(right, "UPDATE client_status SET canary_at = now()")
        assert await drain(right, client) == 5
        assert await value(right, "SELECT breaker_opened_at FROM client_status") is None
        assert await value(right, "SELECT count(*) FROM grants WHERE generation = 1 AND state = 'active'") == 5


async def test_one_damaged_row_stops_nobody(sandbox: RunningSandbox, make_container: ContainerMaker) -> None:
    """A row that the key ring does not open is put off, and the other grants of its client are refreshed."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        [(damaged, _seeded), *_others] = await adopt(container, sandbox, client, 3)
        await execute(container, "UPDATE grants SET refresh_token = 'damaged'::bytea WHERE id = :id", id=damaged)

        await drain(container, client)
        await execute(container, "UPDATE grants SET rotate_at = now() WHERE id = :id", id=damaged)
        await drain(container, client)

        [row] = await rows(container, "SELECT *, rotate_at > now() AS later FROM grants WHERE id = :id", id=damaged)
        assert (row.state, row.failures, row.last_error, row.later) == ("active", 2, "unreadable_token", True)
        assert await value(container, "SELECT count(*) FROM grants WHERE generation = 1") == 2
        assert await value(container, "SELECT breaker_opened_at FROM client_status") is None


async def test_unreadable_rows_before_all_others_hold_up_nobody(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """A key ring that has opened tokens of a client is not at fault for a whole claim of damaged rows."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        await adopt(container, sandbox, client, 1)
        assert await drain(container, client) == 1
        await adopt(container, sandbox, client, 2 * CLAIM_LIMIT, first_number=2)
        await execute(container, "UPDATE grants SET refresh_token = 'damaged'::bytea WHERE generation = 0")
        await execute(container, "UPDATE grants SET rotate_at = now() - interval '1 hour' WHERE generation = 0")
        await adopt(container, sandbox, client, 5, first_number=100)

        draining = asyncio.create_task(drain(container, client))
        rotated = "SELECT count(*) = 6 FROM grants WHERE generation = 1"
        await until(lambda: value(container, rotated), 20.0, "the readable ones are rotated")
        container.drains.stop()
        await draining
        assert await value(container, "SELECT breaker_opened_at FROM client_status") is None
        assert await value(container, "SELECT count(*) FROM grants WHERE failures > 0") == 2 * CLAIM_LIMIT


async def test_a_key_that_is_missing_stops_its_client_though_others_open(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """Grants that were sealed under a key which the ring has lost are no accident: the breaker says so."""
    client = register(sandbox)
    lost = generate_key("lost", lambda size: bytes(range(size)))
    async with (
        make_container(client.toml, **client.environment) as container,
        make_container(client.toml, key_ring=lost, **client.environment) as before,
    ):
        await adopt(container, sandbox, client, 1)
        assert await drain(container, client) == 1
        await adopt(before, sandbox, client, 3, first_number=2)

        assert await drain(container, client) == 0
        assert await value(container, "SELECT breaker_reason FROM client_status") == "unreadable_token"
        assert await value(container, "SELECT count(*) FROM grants WHERE failures = 0 AND generation = 0") == 3


async def test_a_grant_that_is_handed_back_again_waits(sandbox: RunningSandbox, make_container: ContainerMaker) -> None:
    """The same fault for a second time, with no tokens in between, is the grant's own: it waits."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        await adopt(container, sandbox, client, 1)
        before = await value(container, "SELECT rotate_at FROM grants")

        async def hand_back(reason: Reason, *, is_canary: bool = False) -> tuple[bool, int]:
            [grant] = (await claim(container, client, 1)).grants
            again = None if is_canary else grant.claimed_at + timedelta(minutes=1)
            await settle(container, grant, HandBack(cause=Cause(reason=reason), if_again=again))
            [row] = await rows(container, "SELECT rotate_at, failures FROM grants")
            is_moved = row.rotate_at != before
            await execute(container, "UPDATE grants SET rotate_at = :before", before=before)
            return is_moved, row.failures

        assert await hand_back(Reason.INVALID_CLIENT) == (False, 0)
        assert await hand_back(Reason.INVALID_CLIENT, is_canary=True) == (False, 0)
        assert await hand_back(Reason.INVALID_CLIENT) == (True, 1)
        assert await hand_back(Reason.PRIVATE_ADDRESS) == (False, 1)
        [grant] = (await claim(container, client, 1)).grants
        await settle(container, grant, replace(new_tokens(grant.claimed_at), rotate_at=before))
        assert await hand_back(Reason.PRIVATE_ADDRESS) == (False, 0)

        [grant] = (await claim(container, client, 1)).grants
        await execute(container, "UPDATE grants SET rotate_at = now() + interval '1 hour'")
        again = HandBack(cause=Cause(reason=Reason.PRIVATE_ADDRESS), if_again=grant.claimed_at)
        assert await settle(container, grant, again) is Settled.STORED
        assert await value(container, "SELECT rotate_at > now() + interval '59 minutes' FROM grants")
