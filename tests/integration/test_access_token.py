"""The access token on demand: the stored one, or one refresh for however many ask, or why there is none."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from tests.conftest import ContainerMaker
from tests.support.database import execute, value
from tests.support.sandbox_clients import adopt, make_due, register
from tests.support.settling import claim, drain
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import until
from worker.domain.errors import UnknownKeyError
from worker.domain.grant import GrantState
from worker.domain.outcome import Cause, Dead, Reason
from worker.sandbox.behaviour import Behaviour, Rotation
from worker.sandbox.profiles import RFC6749
from worker.sandbox.server import RunningSandbox
from worker.storage.held_tokens import HeldToken, HeldTokens
from worker.storage.sealing import generate_key
from worker.usecases.access_token import (
    FreshToken,
    HeldBack,
    NoSuchGrant,
    NotKeptAlive,
    RefreshFailed,
    RefusedLately,
    TooEarly,
)

pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)
PATIENCE = 20.0


async def test_a_fresh_stored_token_costs_no_refresh(sandbox: RunningSandbox, make_container: ContainerMaker) -> None:
    """While the stored token lives long enough it is handed out as it is, however often it is asked for."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        [(grant_id, seeded)] = await adopt(container, sandbox, client, due=False)

        found = await asyncio.gather(*(container.access_tokens.fresh(grant_id, MINUTE) for _ in range(10)))

        for token in found:
            assert isinstance(token, FreshToken)
            assert (token.access_token, token.generation) == (seeded.access_token, 0)
            assert token.expires_at is not None
    assert sandbox.control.report().refreshes_presented == 0


async def test_fifty_who_ask_at_once_cost_one_refresh(sandbox: RunningSandbox, make_container: ContainerMaker) -> None:
    """For one grant with an expired token, 50 callers in two processes get the same new token from one refresh."""
    client = register(sandbox)
    async with (
        make_container(client.toml, **client.environment) as first,
        make_container(client.toml, **client.environment) as second,
    ):
        [(grant_id, seeded)] = await adopt(first, sandbox, client, due=False)
        await execute(first, "UPDATE grants SET access_expires_at = now() - interval '1 hour'")

        found = await asyncio.gather(
            *(container.access_tokens.fresh(grant_id, MINUTE) for container in (first, second) for _ in range(25))
        )

        assert {type(token) for token in found} == {FreshToken}
        tokens = {token.access_token for token in found if isinstance(token, FreshToken)}
        assert len(tokens) == 1
        assert sandbox.control.account_of(tokens.pop()) == seeded.account
        assert await value(first, "SELECT generation FROM grants") == 1
    report = sandbox.control.report()
    assert (report.refreshes_presented, report.presented_more_than_once) == (1, 0)


class Watched(HeldTokens):
    """Reads tokens, and counts how often somebody has looked at a token."""

    looks = 0

    async def of_grant(self, grant_id: UUID) -> HeldToken | None:
        """Return what is stored, as ever."""
        found = await super().of_grant(grant_id)
        self.looks += 1
        return found


@pytest.mark.parametrize("rotation", [Rotation.ALWAYS, Rotation.NEVER], ids=lambda rotation: rotation.value)
async def test_asking_for_longer_than_tokens_live_costs_one_refresh_for_all(
    sandbox: RunningSandbox, make_container: ContainerMaker, rotation: Rotation
) -> None:
    """Where no token lives as long as is asked for, those who wait for a refresh take what it brings."""
    behaviour = Behaviour(access_lifetime=3600, rotation=rotation)
    with TcpProxy(sandbox.url) as provider:
        client = register(
            sandbox, name="short-lived", profile=RFC6749, behaviour=behaviour, token_endpoint_at=provider.url
        )
        async with make_container(client.toml, **client.environment) as container:
            [(grant_id, seeded)] = await adopt(container, sandbox, client, due=False)
            watched = Watched(container.read_engine, container.held_tokens._keys)
            processes = [replace(container.access_tokens, held_tokens=watched) for _ in range(2)]
            provider.hold()
            asked = [
                asyncio.create_task(access_tokens.fresh(grant_id, timedelta(hours=2)))
                for access_tokens in processes
                for _ in range(5)
            ]
            await until(lambda: provider.held and watched.looks > len(asked), PATIENCE, "all wait for one refresh")
            provider.release()

            found = await asyncio.gather(*asked)

        tokens = {token.access_token for token in found if isinstance(token, FreshToken)}
        assert len(tokens) == 1
        assert seeded.access_token not in tokens
    assert sandbox.control.report().refreshes_presented == 1


class Distracted(HeldTokens):
    """Reads tokens, and goes on only when told to after the first look."""

    def __init__(self, held_tokens: HeldTokens) -> None:
        super().__init__(held_tokens._engine, held_tokens._keys)
        self.has_looked = asyncio.Event()
        self.goes_on = asyncio.Event()

    async def of_grant(self, grant_id: UUID) -> HeldToken | None:
        """Return what was stored when it was looked for."""
        found = await super().of_grant(grant_id)
        self.has_looked.set()
        await self.goes_on.wait()
        return found


@pytest.mark.parametrize("rotation", [Rotation.ALWAYS, Rotation.NEVER], ids=lambda rotation: rotation.value)
async def test_who_acts_on_an_old_look_takes_the_refresh_that_was_made_since(
    sandbox: RunningSandbox, make_container: ContainerMaker, rotation: Rotation
) -> None:
    """Between looking and claiming, somebody else's whole refresh may pass: it is found, and not made again."""
    client = register(sandbox, name="raced", profile=RFC6749, behaviour=Behaviour(rotation=rotation))
    async with make_container(client.toml, **client.environment) as container:
        [(grant_id, _)] = await adopt(container, sandbox, client, due=False)
        await container.access_tokens.refresh(grant_id)
        await execute(container, "UPDATE grants SET access_expires_at = now()")
        distracted = Distracted(container.held_tokens)
        late = asyncio.create_task(replace(container.access_tokens, held_tokens=distracted).fresh(grant_id, MINUTE))
        await distracted.has_looked.wait()

        quick = await container.access_tokens.fresh(grant_id, MINUTE)
        distracted.goes_on.set()

        assert isinstance(quick, FreshToken)
        assert await late == quick
    assert sandbox.control.report().refreshes_presented == 2


async def test_a_token_whose_end_is_unknown_is_refreshed_first(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """An adopted access token that came without its lifetime is not handed out: it may have ended long ago."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        [(grant_id, seeded)] = await adopt(container, sandbox, client)

        found = await container.access_tokens.fresh(grant_id, MINUTE)

        assert isinstance(found, FreshToken)
        assert found.access_token != seeded.access_token
        assert found.expires_at is not None


async def test_the_wanted_rest_of_life_decides(sandbox: RunningSandbox, make_container: ContainerMaker) -> None:
    """A stored token with ten minutes left serves whoever needs nine, and is refreshed for who needs eleven."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        [(grant_id, seeded)] = await adopt(container, sandbox, client, due=False)
        await execute(container, "UPDATE grants SET access_expires_at = now() + interval '10 minutes'")

        enough = await container.access_tokens.fresh(grant_id, 9 * MINUTE)
        refreshed = await container.access_tokens.fresh(grant_id, 11 * MINUTE)

        assert isinstance(enough, FreshToken)
        assert isinstance(refreshed, FreshToken)
        assert (enough.access_token, enough.generation) == (seeded.access_token, 0)
        assert (refreshed.access_token == seeded.access_token, refreshed.generation) == (False, 1)
    assert sandbox.control.report().rotations == 1


async def test_who_comes_during_a_rotation_waits_for_its_token(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """A caller who finds the grant being rotated presents nothing and gets the rotation's token."""
    with TcpProxy(sandbox.url) as provider:
        client = register(sandbox, token_endpoint_at=provider.url)
        async with make_container(client.toml, **client.environment) as container:
            [(grant_id, seeded)] = await adopt(container, sandbox, client)
            provider.hold()
            draining = asyncio.create_task(drain(container, client))
            await until(lambda: provider.held, PATIENCE, "the refresh is answered")
            asked = [
                asyncio.create_task(container.access_tokens.fresh(grant_id, MINUTE)),
                asyncio.create_task(container.access_tokens.refresh(grant_id)),
            ]
            await asyncio.wait(asked, timeout=0.2)
            assert not any(task.done() for task in asked)

            provider.release()
            await draining

            for token in await asyncio.gather(*asked):
                assert isinstance(token, FreshToken)
                assert sandbox.control.account_of(token.access_token) == seeded.account
    assert sandbox.control.report().refreshes_presented == 1


async def test_who_gives_up_waiting_loses_no_token(sandbox: RunningSandbox, make_container: ContainerMaker) -> None:
    """A caller who goes away, as with Ctrl-C, while the refresh is under way leaves its answer stored all the same."""
    with TcpProxy(sandbox.url) as provider:
        client = register(sandbox, token_endpoint_at=provider.url)
        async with make_container(client.toml, **client.environment) as container:
            [(grant_id, _seeded)] = await adopt(container, sandbox, client)
            provider.hold()
            asking = asyncio.create_task(container.access_tokens.refresh(grant_id))
            await until(lambda: provider.held, PATIENCE, "the refresh is answered")
            asking.cancel()
            provider.release()

            with pytest.raises(asyncio.CancelledError):
                await asking
            assert await value(container, "SELECT generation FROM grants WHERE leased_until IS NULL") == 1


async def test_a_grant_that_is_not_there_is_said(sandbox: RunningSandbox, make_container: ContainerMaker) -> None:
    """An unknown id has no token and no refresh."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        assert await container.access_tokens.fresh(uuid4(), MINUTE) == NoSuchGrant()
        assert await container.access_tokens.refresh(uuid4()) == NoSuchGrant()


@pytest.mark.parametrize("state", [GrantState.RECONSENT_REQUIRED, GrantState.PAUSED, GrantState.REVOKED])
async def test_a_grant_that_is_not_kept_alive_gives_nothing(
    sandbox: RunningSandbox, make_container: ContainerMaker, state: GrantState
) -> None:
    """Not even a stored token that would live is handed out of a dead, paused or revoked grant."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        [(grant_id, _)] = await adopt(container, sandbox, client, due=False)
        await execute(
            container, "UPDATE grants SET state = :state, state_reason = 'why', rotate_at = NULL", state=state.value
        )

        assert await container.access_tokens.fresh(grant_id, MINUTE) == NotKeptAlive(state=state, reason="why")
        assert await container.access_tokens.refresh(grant_id) == NotKeptAlive(state=state, reason="why")
    assert sandbox.control.report().refreshes_presented == 0


async def test_a_grant_in_doubt_serves_its_token_to_the_end(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """In doubt, the stored token is handed out while it lives, and nobody's asking spends the refresh token again."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        [(grant_id, seeded)] = await adopt(container, sandbox, client, due=False)
        await execute(container, "UPDATE grants SET rotate_at = now()")
        assert (await claim(container, client, 1, timedelta(milliseconds=1))).grants
        await container.dispatch.dispatch()
        in_doubt = NotKeptAlive(state=GrantState.IN_DOUBT, reason="worker_died")

        served = await container.access_tokens.fresh(grant_id, MINUTE)
        assert isinstance(served, FreshToken)
        assert served.access_token == seeded.access_token
        assert await container.access_tokens.refresh(grant_id) == in_doubt
        await execute(container, "UPDATE grants SET access_expires_at = now()")
        assert await container.access_tokens.fresh(grant_id, MINUTE) == in_doubt
    assert sandbox.control.report().refreshes_presented == 0


@pytest.mark.parametrize(
    "held_by",
    ["breaker_opened_at = now()", "paused_by_operator = true", "throttled_until = now() + interval '1 minute'"],
    ids=["breaker", "operator", "throttle"],
)
async def test_a_client_that_is_held_back_serves_what_is_stored(
    sandbox: RunningSandbox, make_container: ContainerMaker, held_by: str
) -> None:
    """With the breaker open, a pause or a throttle, stored tokens go on and a refresh is not even tried."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        [(grant_id, seeded)] = await adopt(container, sandbox, client, due=False)
        await execute(container, "INSERT INTO client_status (client) VALUES (:client)", client=client.name)
        await execute(container, f"UPDATE client_status SET {held_by}")

        stored = await container.access_tokens.fresh(grant_id, MINUTE)
        assert isinstance(stored, FreshToken)
        assert stored.access_token == seeded.access_token
        assert await container.access_tokens.fresh(grant_id, timedelta(days=2)) == HeldBack(client=client.name)
        assert await container.access_tokens.refresh(grant_id) == HeldBack(client=client.name)
        assert await value(container, "SELECT count(*) FROM grants WHERE lease_id IS NOT NULL") == 0
    assert sandbox.control.report().refreshes_presented == 0


async def test_a_refresh_that_brings_nothing_says_why(sandbox: RunningSandbox, make_container: ContainerMaker) -> None:
    """The provider's refusal is the caller's answer, and the same strike as in a rotation."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        [(grant_id, seeded)] = await adopt(container, sandbox, client)
        sandbox.control.revoke_consent(client.name, seeded.account)

        cause = Cause(reason=Reason.INVALID_GRANT, status=400, code="invalid_grant")
        assert await container.access_tokens.refresh(grant_id) == RefreshFailed(outcome=Dead(cause=cause))

        assert await value(container, "SELECT strikes FROM grants") == 1


async def test_whoever_asks_again_and_again_ends_no_grant(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """Within a strike's interval nothing is asked for a caller, and what an operator asks counts for nothing."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        [(grant_id, seeded)] = await adopt(container, sandbox, client)
        sandbox.control.revoke_consent(client.name, seeded.account)
        assert isinstance(await container.access_tokens.fresh(grant_id, timedelta(days=2)), RefreshFailed)
        next_try = await value(container, "SELECT rotate_at FROM grants")

        for _ in range(3):
            refused = await container.access_tokens.fresh(grant_id, timedelta(days=2))
            assert refused == RefusedLately(until=next_try, now=next_try)
        assert sandbox.control.report().refreshes_presented == 1
        for _ in range(3):
            assert isinstance(await container.access_tokens.refresh(grant_id), RefreshFailed)
        held = "SELECT state = 'active' AND strikes = 1 AND rotate_at = :at FROM grants"
        assert await value(container, held, at=next_try)

        await make_due(container)
        assert isinstance(await container.access_tokens.fresh(grant_id, timedelta(days=2)), RefreshFailed)
        assert await value(container, "SELECT state FROM grants") == "reconsent_required"


async def test_a_token_under_an_unknown_key_is_an_error_that_names_the_key(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """With another key ring the stored token is refused with the id of the missing key, and nothing changes."""
    client = register(sandbox)
    other = generate_key("other", lambda size: bytes(range(size)))
    async with (
        make_container(client.toml, **client.environment) as right,
        make_container(client.toml, key_ring=other, **client.environment) as wrong,
    ):
        [(with_token, _), (without_token, _)] = await adopt(right, sandbox, client, 2, due=False)
        await execute(right, "UPDATE grants SET access_token = NULL WHERE id = :id", id=without_token)

        for grant_id in (with_token, without_token):
            with pytest.raises(UnknownKeyError, match=f"of {grant_id} is sealed under key 'test'"):
                await wrong.access_tokens.fresh(grant_id, MINUTE)

        assert await value(right, "SELECT count(*) FROM grants WHERE state = 'active' AND leased_until IS NULL") == 2
    assert sandbox.control.report().refreshes_presented == 0


async def test_one_who_gives_up_takes_the_token_from_nobody(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """Of two who wait for one refresh the first goes away: the other gets the token, at once and from that refresh."""
    with TcpProxy(sandbox.url) as provider:
        client = register(sandbox, token_endpoint_at=provider.url)
        async with make_container(client.toml, **client.environment) as container:
            [(grant_id, _seeded)] = await adopt(container, sandbox, client)
            provider.hold()
            first = asyncio.create_task(container.access_tokens.fresh(grant_id, MINUTE))
            await until(lambda: provider.held, PATIENCE, "the refresh is answered")
            second = asyncio.create_task(container.access_tokens.fresh(grant_id, MINUTE))
            [flight] = container.access_tokens.flights.values()
            await until(lambda: flight.waiting == 2, PATIENCE, "both wait")

            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            provider.release()

            assert isinstance(await second, FreshToken)
            assert container.access_tokens.flights == {}
    assert sandbox.control.report().refreshes_presented == 1


async def test_no_refresh_on_demand_before_the_provider_allows_it(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """Exact Online refuses a refresh until shortly before the token's end: until then the stored token is given out."""
    client = register(sandbox, provider='earliest_margin = "30s"')
    async with make_container(client.toml, **client.environment) as container:
        [(grant_id, seeded)] = await adopt(container, sandbox, client, due=False)
        ends = "UPDATE grants SET issued_at = now() - interval '10 min', access_expires_at = now() + interval '{}'"
        await execute(container, ends.format("40s"))

        given = await container.access_tokens.fresh(grant_id, MINUTE)
        early = await container.access_tokens.refresh(grant_id)

        assert isinstance(given, FreshToken)
        assert given.access_token == seeded.access_token
        assert isinstance(early, TooEarly)
        assert timedelta(seconds=10) < early.at - given.now < timedelta(seconds=20)
        assert sandbox.control.report().refreshes_presented == 0

        await execute(container, ends.format("20s"))  # the window is open
        given = await container.access_tokens.fresh(grant_id, MINUTE)

        assert isinstance(given, FreshToken)
        assert given.access_token != seeded.access_token
    assert sandbox.control.report().refreshes_presented == 1


async def test_a_grant_is_not_refreshed_on_demand_more_often_than_its_provider_takes(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """Whoever asks again and again for more than a token's whole life costs one refresh, and not one each time."""
    client = register(sandbox, provider='limits.refreshes_per_grant = "6/m"')
    async with make_container(client.toml, **client.environment) as container:
        [(grant_id, _seeded)] = await adopt(container, sandbox, client, due=False)
        await execute(container, "UPDATE grants SET issued_at = now() - interval '1 minute'")

        given = [await container.access_tokens.fresh(grant_id, timedelta(days=30)) for _ in range(3)]

        assert len({token.access_token for token in given if isinstance(token, FreshToken)}) == 1
        assert len(given) == 3
        assert isinstance(await container.access_tokens.refresh(grant_id), TooEarly)
    assert sandbox.control.report().refreshes_presented == 1


async def test_a_token_that_has_ended_waits_for_the_provider(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """Where the stored token has ended and the provider takes no refresh yet, the caller waits for it."""
    client = register(sandbox, provider='limits.refreshes_per_grant = "1/s"')
    async with make_container(client.toml, **client.environment) as container:
        [(grant_id, _seeded)] = await adopt(container, sandbox, client, due=False)
        await execute(container, "UPDATE grants SET issued_at = now(), access_expires_at = now()")

        given = await container.access_tokens.fresh(grant_id, MINUTE)

        assert isinstance(given, FreshToken)
        assert await value(container, "SELECT issued_at > created_at + interval '1 second' FROM grants")
    assert sandbox.control.report().refreshes_presented == 1
