"""Webhooks that are not taken: retried, spared, dead, gone, and sent again by an operator."""

from __future__ import annotations

import socket
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.conftest import ContainerMaker
from tests.support.database import execute, value
from tests.support.raw_token_endpoint import free_port
from tests.support.webhook_receiver import TAKEN, Reply, WebhookReceiver
from tests.support.webhooks import ENVIRONMENT, SECRET, deliver, endpoint, happen, impatient, many, waiting
from worker.bootstrap import Container
from worker.domain.webhook import ATTEMPTS
from worker.storage.webhook_endpoints import EndpointStatus

pytestmark = pytest.mark.anyio


async def status(container: Container) -> EndpointStatus:
    """Return how the one endpoint is."""
    [found] = await container.webhooks.statuses()
    return found


async def time_passes(container: Container) -> None:
    """Let what is waited for be now."""
    await execute(container, "UPDATE webhook_deliveries SET next_attempt_at = now() WHERE dead_at IS NULL")
    await execute(container, "UPDATE webhook_endpoints SET held_until = now() WHERE held_until IS NOT NULL")


async def test_a_receiver_that_is_down_is_spared_and_then_has_everything(make_container: ContainerMaker) -> None:
    """While nobody listens one delivery at a time is tried; when somebody does, all events come, in order and soon."""
    port = free_port()
    async with make_container(endpoint(f"http://127.0.0.1:{port}/hooks"), **ENVIRONMENT) as container:
        hooks = container.webhooks
        await deliver(hooks)
        grants = await many(container, grants=20, each=2)
        await deliver(hooks)
        down = await status(container)
        assert (down.last_error, down.waiting, down.dead) == ("connection refused: nothing listens there", 40, 0)
        assert (down.failures, down.held_until is not None) == (1, True)
        assert await hooks.due() == []
        tried = await value(container, "SELECT sum(failures) FROM webhook_deliveries")
        for _ in range(3):
            await execute(container, "UPDATE webhook_endpoints SET held_until = now()")
            await deliver(hooks)
        assert await value(container, "SELECT sum(failures) FROM webhook_deliveries") == tried + 3

        with WebhookReceiver(SECRET, port=port) as receiver:
            await execute(container, "UPDATE webhook_endpoints SET held_until = now()")
            await deliver(hooks)  # what was tried in vain does not wait for its own next attempt
            assert await waiting(container) == []
            up = await status(container)

    assert (up.failures, up.held_until, up.delivered) == (0, None, 40)
    for grant in grants:
        ids = [message.data["id"] for message in receiver.taken if message.data["grant"] == str(grant)]
        assert (len(ids), ids) == (2, sorted(ids))


async def test_an_event_that_is_never_taken_is_dead_and_can_be_sent_again(make_container: ContainerMaker) -> None:
    """After the last attempt it is shown as dead, its grant's later events arrive, and a replay brings it after all."""
    grant = uuid4()
    with WebhookReceiver(SECRET) as receiver:
        async with make_container(endpoint(receiver.url), **ENVIRONMENT) as container:
            hooks = container.webhooks
            await deliver(hooks)
            first, second = await happen(container, "grant.in_doubt", "grant.revived", grant=grant)
            receiver.answer = lambda message: Reply(status=500) if message.data["id"] == first else TAKEN
            await deliver(hooks)
            for attempt in range(1, ATTEMPTS):
                assert [row.failures for row in await waiting(container)] == [attempt, 0]
                await time_passes(container)
                await deliver(hooks)

            [dead] = await hooks.overview.dead(["billing"], limit=10)
            assert (dead.event, dead.type, dead.grant, dead.failures) == (first, "grant.in_doubt", grant, ATTEMPTS)
            assert dead.last_error == "it answered 500"
            await time_passes(container)  # the endpoint was spared: nothing but this event had come to it
            await deliver(hooks)
            assert [message.data["id"] for message in receiver.taken] == [second]
            counted = await status(container)
            assert (counted.delivered, counted.waiting, counted.dead) == (1, 0, 1)

            receiver.answer = lambda _message: TAKEN
            assert await hooks.overview.replay_dead("billing") == 1
            await time_passes(container)
            await deliver(hooks)
            after = await status(container)
            assert (after.delivered, after.waiting, after.dead) == (2, 0, 0)

    by_event = [message.id for message in receiver.received if message.data["id"] == first]
    assert (len(by_event), len(set(by_event))) == (ATTEMPTS + 1, 1), "the same id at every attempt"


async def test_410_stops_an_endpoint_and_keeps_its_events(make_container: ContainerMaker) -> None:
    """An endpoint that is gone is asked no more, until an operator resumes it or its address is another one."""
    with WebhookReceiver(SECRET) as gone, WebhookReceiver(SECRET) as moved:
        gone.answer = lambda _message: Reply(status=410)
        async with make_container(endpoint(gone.url), **ENVIRONMENT) as container:
            hooks = container.webhooks
            await deliver(hooks)
            grant = uuid4()
            await happen(container, "grant.created", "grant.in_doubt", grant=grant)
            await deliver(hooks)
            stopped = await status(container)
            assert (stopped.paused_reason, stopped.waiting, stopped.dead) == ("gone", 2, 0)
            assert stopped.last_error == "it answered 410 Gone: it wants no events any more"
            await happen(container, "grant.revived", grant=grant)
            await time_passes(container)
            await deliver(hooks)
            assert (len(gone.received), (await status(container)).waiting) == (1, 3)

            assert await hooks.overview.resume("billing")
            gone.answer = lambda message: TAKEN if message.type == "grant.created" else Reply(status=410)
            await deliver(hooks)
            assert [message.type for message in gone.taken] == ["grant.created"]
            assert (await status(container)).paused_reason == "gone"
        async with make_container(endpoint(moved.url), **ENVIRONMENT) as container:
            await deliver(container.webhooks)
            assert (await status(container)).paused_at is None

    assert [message.type for message in moved.taken] == ["grant.in_doubt", "grant.revived"]


async def test_retry_after_is_heeded(make_container: ContainerMaker) -> None:
    """429 with Retry-After: neither this event nor any other is sent to the endpoint before."""
    with WebhookReceiver(SECRET) as receiver:
        receiver.answer = lambda _message: Reply(status=429, headers={"retry-after": "600"})
        async with make_container(endpoint(receiver.url), **ENVIRONMENT) as container:
            hooks = impatient(container)
            await deliver(hooks)
            await happen(container, "grant.created", grant=uuid4())
            await deliver(hooks)
            await happen(container, "grant.created", grant=uuid4())
            await deliver(hooks)

            assert len(receiver.received) == 1
            waits: Any = await value(
                container, "SELECT min(next_attempt_at) - now() FROM webhook_deliveries WHERE failures = 1"
            )
            held: Any = await value(container, "SELECT held_until - now() FROM webhook_endpoints")
            assert all(timedelta(seconds=590) < wait <= timedelta(seconds=600) for wait in (waits, held))


async def test_an_endpoint_that_fails_at_every_event_is_spared_too(make_container: ContainerMaker) -> None:
    """An address that answers 404 to everything is asked a few times, and then with one event at a time."""
    with WebhookReceiver(SECRET) as receiver:
        receiver.answer = lambda _message: Reply(status=404)
        async with make_container(endpoint(receiver.url, more="max_in_flight = 4"), **ENVIRONMENT) as container:
            hooks = container.webhooks
            await deliver(hooks)
            await many(container, grants=100, each=1)
            await deliver(hooks)

            asked = len(receiver.received)
            assert asked < 50
            assert (await status(container)).held_until is not None
            await execute(container, "UPDATE webhook_endpoints SET held_until = now()")
            await deliver(hooks)
            assert len(receiver.received) == asked + 1


async def test_a_replay_sends_what_has_arrived_once_more(make_container: ContainerMaker) -> None:
    """By event, or by when it happened: the same ids and bytes again, and only what the endpoint wants."""
    with WebhookReceiver(SECRET) as receiver:
        configuration = endpoint(receiver.url, more='events = ["grant.revived", "client.*"]')
        async with make_container(configuration, **ENVIRONMENT) as container:
            hooks = container.webhooks
            await deliver(hooks)
            wanted = hooks.wanted(hooks.endpoints["billing"])
            revived, doubted, braked = await happen(container, "grant.revived", "grant.in_doubt", "client.braked")
            await execute(container, "UPDATE events SET at = now() - interval '3 hours' WHERE id = :id", id=revived)
            await deliver(hooks)
            before = {message.data["id"]: message for message in receiver.received}
            assert set(before) == {revived, braked}

            assert await hooks.overview.replay(wanted, event=doubted) == 0
            assert await hooks.overview.replay(wanted, event=revived) == 1
            await deliver(hooks)
            now = await container.grants.now()
            assert await hooks.overview.replay(wanted, since=now - timedelta(hours=1)) == 1
            await deliver(hooks)
            assert await hooks.overview.replay(wanted, since=now - timedelta(hours=4)) == 2
            await deliver(hooks)

    again = [message.data["id"] for message in receiver.received[2:]]
    assert (again[:2], sorted(again[2:])) == ([revived, braked], [revived, braked])
    assert all(message.id == before[message.data["id"]].id for message in receiver.received)
    assert all(message.body == before[message.data["id"]].body for message in receiver.received)


async def test_a_name_that_leads_to_a_private_address_is_not_called(
    make_container: ContainerMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address is looked at when the socket is made: a name that changes its address gains nothing."""

    def getaddrinfo(_host: str, port: int, **_rest: object) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.5", port))]

    async with make_container(endpoint("https://hooks.example/x"), **ENVIRONMENT) as container:
        await deliver(container.webhooks)
        await happen(container, "grant.created", grant=uuid4())
        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        assert await container.webhooks.due() == ["billing"]
        await container.webhooks.deliver("billing")
        monkeypatch.undo()
        said = (await status(container)).last_error

    assert said == "its address is a private one; where it is meant, set allow_private_addresses = true"
