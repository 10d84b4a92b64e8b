"""One client's drain against the sandbox: what each outcome leaves behind."""

from __future__ import annotations

from datetime import timedelta

import pytest
from structlog.testing import CapturingLogger

from tests.conftest import ContainerMaker
from tests.support.sandbox_clients import adopt, make_due, register
from worker.domain.grant import GrantState
from worker.sandbox.behaviour import Behaviour
from worker.sandbox.misbehaviour import Misbehaviour, Order
from worker.sandbox.profiles import RFC6749
from worker.sandbox.refusal import ErrorCode
from worker.sandbox.server import RunningSandbox
from worker.usecases.access_token import FreshToken

pytestmark = pytest.mark.anyio

DRAIN_SECONDS = 20.0


async def test_a_due_grant_is_rotated(sandbox: RunningSandbox, make_container: ContainerMaker) -> None:
    """A due grant gets new tokens, and the new refresh token is the one that the provider takes next."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        [(grant_id, seeded)] = await adopt(container, sandbox, client)
        configured = container.configuration.registry.client(client.name)

        assert await container.drains.drain(configured, DRAIN_SECONDS) == 1

        view = await container.grants.show(grant_id)
        assert view is not None
        assert (view.state, view.generation, view.last_error, view.leased) == (GrantState.ACTIVE, 1, None, False)
        held = await container.held_tokens.of_grant(grant_id)
        assert held is not None
        assert held.access_token is not None
        assert held.access_token != seeded.access_token
        assert sandbox.control.account_of(held.access_token) == seeded.account

        await container.access_tokens.refresh(grant_id)
        again = await container.grants.show(grant_id)
        assert again is not None
        assert again.generation == 2
    assert sandbox.control.report().presented_more_than_once == 0


async def test_a_bug_in_reading_puts_a_grant_in_doubt_and_is_told(
    sandbox: RunningSandbox, make_container: ContainerMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be told is a doubt, never a plain retry; the log has the kind and place of the error, no message."""

    def fail(*_arguments: object, **_more: object) -> None:
        raise ValueError("rt-secret")

    log = CapturingLogger()
    monkeypatch.setattr("worker.oauth.token_endpoint.classify", fail)
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        monkeypatch.setattr("worker.observers.log", log)
        [(grant_id, _seeded)] = await adopt(container, sandbox, client)
        await container.drains.drain(container.configuration.registry.client(client.name), DRAIN_SECONDS)
        view = await container.grants.show(grant_id)

    assert view is not None
    assert view.state is GrantState.IN_DOUBT
    [said] = [call.kwargs for call in log.calls if call.args == ("refresh_raised",)]
    assert (said["error"], said["grant"]) == ("ValueError", str(grant_id))
    assert said["place"].startswith("test_rotation.py:")
    assert "rt-secret" not in str(log.calls)


async def test_a_drain_works_through_everything_due(sandbox: RunningSandbox, make_container: ContainerMaker) -> None:
    """Several hundred due grants are rotated in one drain, each refresh token presented once."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        adopted = await adopt(container, sandbox, client, 300)
        configured = container.configuration.registry.client(client.name)

        assert await container.drains.drain(configured, DRAIN_SECONDS) == len(adopted)

        views = await container.grants.list(client=client.name, state=None, after=None, limit=1000)
        assert {(view.state, view.generation) for view in views} == {(GrantState.ACTIVE, 1)}
    report = sandbox.control.report()
    assert (report.rotations, report.presented_more_than_once, report.double_spends) == (300, 0, 0)


async def test_strikes_end_a_grant(sandbox: RunningSandbox, make_container: ContainerMaker) -> None:
    """One invalid_grant is a strike; the second, later, asks for the owner."""
    client = register(sandbox, provider='strike_interval = "1h"')
    async with make_container(client.toml, **client.environment) as container:
        [(grant_id, seeded)] = await adopt(container, sandbox, client)
        configured = container.configuration.registry.client(client.name)
        sandbox.control.revoke_consent(client.name, seeded.account)

        await container.drains.drain(configured, DRAIN_SECONDS)
        first = await container.grants.show(grant_id)
        assert first is not None
        assert (first.state, first.strikes, first.last_error) == (GrantState.ACTIVE, 1, "invalid_grant")
        await make_due(container)

        await container.drains.drain(configured, DRAIN_SECONDS)
        second = await container.grants.show(grant_id)
        assert second is not None
        assert (second.state, second.state_reason) == (GrantState.RECONSENT_REQUIRED, "invalid_grant")
        assert second.rotate_at is None


async def test_a_strike_is_forgiven(sandbox: RunningSandbox, make_container: ContainerMaker) -> None:
    """An invalid_grant that was the provider's mistake leaves no trace after the next refresh."""
    client = register(sandbox, provider='strike_interval = "1h"')
    async with make_container(client.toml, **client.environment) as container:
        [(grant_id, _)] = await adopt(container, sandbox, client)
        configured = container.configuration.registry.client(client.name)
        sandbox.control.order(Order(kind=Misbehaviour.SPURIOUS_INVALID_GRANT, times=1))

        await container.drains.drain(configured, DRAIN_SECONDS)
        await make_due(container)
        await container.drains.drain(configured, DRAIN_SECONDS)

        view = await container.grants.show(grant_id)
        assert view is not None
        assert (view.state, view.strikes, view.generation) == (GrantState.ACTIVE, 0, 1)


async def test_a_wrong_client_secret_marks_no_grant(sandbox: RunningSandbox, make_container: ContainerMaker) -> None:
    """With a wrong client secret no grant changes, and the breaker lets only a handful of requests leave."""
    client = register(sandbox, secret="another secret", client="max_in_flight = 5")
    async with make_container(client.toml, **client.environment) as container:
        await adopt(container, sandbox, client, 50)
        configured = container.configuration.registry.client(client.name)

        await container.drains.drain(configured, 1.0)
        await container.drains.drain(configured, 1.0)

        views = await container.grants.list(client=client.name, state=None, after=None, limit=100)
        assert {(view.state, view.strikes, view.failures, view.generation) for view in views} == {
            (GrantState.ACTIVE, 0, 0, 0)
        }
        assert await container.dispatch.dispatch() == []
    assert sandbox.control.report().errors[ErrorCode.INVALID_CLIENT] <= 10


async def test_a_lost_reply_puts_a_single_use_grant_in_doubt(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """A rotation whose answer was lost is in doubt; one deliberate probe follows, and then the owner is needed."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        [(grant_id, seeded)] = await adopt(container, sandbox, client, due=False)
        await make_due(container)
        configured = container.configuration.registry.client(client.name)
        sandbox.control.order(Order(kind=Misbehaviour.LOST_REPLY, times=1))

        await container.drains.drain(configured, DRAIN_SECONDS)
        doubtful = await container.grants.show(grant_id)
        assert doubtful is not None
        assert doubtful.state is GrantState.IN_DOUBT
        assert doubtful.rotate_at is not None
        assert doubtful.access_expires_at is not None
        assert doubtful.rotate_at < doubtful.access_expires_at, "the probe comes before the access token ends"
        held = await container.access_tokens.fresh(grant_id, timedelta(seconds=60))
        assert isinstance(held, FreshToken), "the access token stays in service meanwhile"
        assert held.access_token == seeded.access_token
        await make_due(container)

        await container.drains.drain(configured, DRAIN_SECONDS)
        view = await container.grants.show(grant_id)
        assert view is not None
        assert (view.state, view.state_reason) == (GrantState.RECONSENT_REQUIRED, "rotation_reply_lost")
    report = sandbox.control.report()
    assert (report.replays_after_withheld_answer, report.double_spends) == (1, 0)


async def test_a_reuse_grace_heals_a_lost_reply(sandbox: RunningSandbox, make_container: ContainerMaker) -> None:
    """Within the provider's reuse grace the same token is presented again and the grant lives on."""
    client = register(
        sandbox,
        name="grace-test",
        profile=RFC6749,
        behaviour=Behaviour(reuse_grace=30),
        provider='old_token = "grace"\nreuse_grace = "30s"',
    )
    async with make_container(client.toml, **client.environment) as container:
        [(grant_id, _)] = await adopt(container, sandbox, client)
        configured = container.configuration.registry.client(client.name)
        sandbox.control.order(Order(kind=Misbehaviour.LOST_REPLY, times=1))
        await container.drains.drain(configured, DRAIN_SECONDS)

        result = None
        while result is None or result.state is GrantState.IN_DOUBT:
            await make_due(container)
            await container.drains.drain(configured, DRAIN_SECONDS)
            result = await container.grants.show(grant_id)

        assert result is not None
        assert (result.state, result.generation) == (GrantState.ACTIVE, 1)
    assert sandbox.control.report().grace_replays == 1


@pytest.mark.parametrize(
    ("order", "state", "error"),
    [
        (Order(kind=Misbehaviour.ERROR_BEFORE, times=1), GrantState.IN_DOUBT, "temporarily_unavailable"),
        (Order(kind=Misbehaviour.ERROR_AFTER, times=1), GrantState.IN_DOUBT, "server_error"),
        (Order(kind=Misbehaviour.HTML_PAGE, times=1), GrantState.IN_DOUBT, "unreadable_answer"),
        (Order(kind=Misbehaviour.HTML_PAGE, times=1, status=502), GrantState.IN_DOUBT, "server_error"),
        (Order(kind=Misbehaviour.TRUNCATED_JSON, times=1), GrantState.IN_DOUBT, "unreadable_answer"),
        (Order(kind=Misbehaviour.OVERSIZED_BODY, times=1), GrantState.IN_DOUBT, "unreadable_answer"),
        (Order(kind=Misbehaviour.CUT_REPLY, times=1), GrantState.IN_DOUBT, "no_answer"),
        (Order(kind=Misbehaviour.THROTTLED, times=1, retry_after=60), GrantState.ACTIVE, "rate_limited"),
        (Order(kind=Misbehaviour.OMITTED_EXPIRES_IN, times=1), GrantState.ACTIVE, None),
        (Order(kind=Misbehaviour.ABSURD_EXPIRES_IN, times=1, expires_in="soon"), GrantState.ACTIVE, None),
        (Order(kind=Misbehaviour.WRONG_CONTENT_TYPE, times=1), GrantState.ACTIVE, None),
    ],
    ids=lambda value: value.kind.value if isinstance(value, Order) else None,
)
async def test_every_misbehaviour_has_its_outcome(
    sandbox: RunningSandbox, make_container: ContainerMaker, order: Order, state: GrantState, error: str | None
) -> None:
    """Whatever the provider does, the grant ends in the state that its facts call for, and no double spend follows."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        [(grant_id, _)] = await adopt(container, sandbox, client, due=False)
        await make_due(container)
        configured = container.configuration.registry.client(client.name)
        sandbox.control.order(order)

        await container.drains.drain(configured, DRAIN_SECONDS)

        view = await container.grants.show(grant_id)
        assert view is not None
        assert (view.state, view.last_error) == (state, error)
        assert view.strikes == 0
    assert sandbox.control.report().double_spends == 0
