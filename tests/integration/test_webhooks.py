"""Webhooks on a real receiver that verifies with the Standard Webhooks library: what is sent, where, in which order."""

from __future__ import annotations

import asyncio
import random  # noqa: TID251 -- the test's own, and the same each time
from collections import Counter, defaultdict
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from tests.conftest import ContainerMaker
from tests.support.database import execute, rows, value
from tests.support.sandbox_clients import adopt, register
from tests.support.waiting import until
from tests.support.webhook_receiver import TAKEN, Received, Reply, WebhookReceiver
from tests.support.webhooks import (
    ENVIRONMENT,
    OTHER_SECRET,
    SECRET,
    deliver,
    delivered,
    endpoint,
    happen,
    impatient,
    many,
    waiting,
)
from worker.sandbox.server import RunningSandbox
from worker.storage import webhook_outbox
from worker.storage.webhook_deliveries import _CLAIM

pytestmark = pytest.mark.anyio


async def test_an_event_arrives_signed(sandbox: RunningSandbox, make_container: ContainerMaker) -> None:
    """What happens to a grant is sent with id, timestamp and signature, says what the API says, and holds no secret."""
    client = register(sandbox)
    with WebhookReceiver(SECRET) as receiver:
        async with make_container(
            client.toml + endpoint(receiver.url), **client.environment, **ENVIRONMENT
        ) as container:
            await adopt(container, sandbox, client)  # before the endpoint was there: not for it
            await deliver(container.webhooks)
            [(grant, seeded)] = await adopt(container, sandbox, client, first_number=2)
            await container.operations.pause(grant)
            await container.statuses.pause(client.name)
            await deliver(container.webhooks)

            assert not await waiting(container)
            [status] = await container.webhooks.statuses()

    created, paused, client_paused = sorted(receiver.received, key=lambda message: int(message.data["id"]))
    about = {"client": client.name, "grant": str(grant), "subject": seeded.account}
    assert (created.type, created.data) == ("grant.created", {"id": created.data["id"], **about})
    assert (paused.type, paused.data["reason"], paused.data["grant"]) == ("grant.paused", "operator", str(grant))
    assert (client_paused.type, client_paused.data["grant"]) == ("client.paused", None)
    assert created.id.startswith(f"evt_{created.data['id']}_")
    assert created.timestamp.endswith("Z")
    assert created.headers["content-type"] == "application/json"
    assert created.headers["user-agent"].startswith("Evergrant")
    assert (status.delivered, status.waiting, status.dead, status.last_error) == (3, 0, 0, None)
    assert receiver.refused == 0
    for message in receiver.received:
        for secret in (seeded.refresh_token, seeded.access_token):
            assert secret.reveal().encode() not in message.body


async def test_an_endpoint_gets_what_it_wants(make_container: ContainerMaker) -> None:
    """`events` and `clients` choose, for each endpoint by itself; what nobody wants is passed over."""
    with WebhookReceiver(SECRET) as deaths, WebhookReceiver(OTHER_SECRET) as ours:
        configuration = (
            '[clients.ours]\nprovider = "askara"\nclient_id = "c"\nclient_secret = "env:HOOK_SECRET"\n'
            + endpoint(deaths.url, "deaths", 'events = ["grant.reconsent_required", "client.*"]')
            + endpoint(ours.url, "ours", 'clients = "ours"', secret='"env:OTHER_HOOK_SECRET"')
        )
        async with make_container(configuration, **ENVIRONMENT) as container:
            await deliver(container.webhooks)
            await happen(container, "grant.created", "grant.reconsent_required", grant=uuid4())
            await happen(container, "grant.created", "grant.reconsent_required", grant=uuid4(), client="theirs")
            await happen(container, "client.braked", client="theirs")
            await deliver(container.webhooks)

    assert Counter((message.type, message.data["client"]) for message in deaths.received) == {
        ("grant.reconsent_required", "ours"): 1,
        ("grant.reconsent_required", "theirs"): 1,
        ("client.braked", "theirs"): 1,
    }
    assert [message.type for message in ours.received] == ["grant.created", "grant.reconsent_required"]


async def test_a_secret_is_replaced_without_a_gap(make_container: ContainerMaker) -> None:
    """While two secrets are configured each message verifies by either, and by no third one."""
    with (
        WebhookReceiver(SECRET) as old,
        WebhookReceiver(OTHER_SECRET) as new,
        WebhookReceiver("whsec_" + "A" * 32) as third,
    ):
        both = '["env:OTHER_HOOK_SECRET", "env:HOOK_SECRET"]'
        receivers = {"old": old, "new": new, "third": third}
        configuration = "".join(endpoint(found.url, name, secret=both) for name, found in receivers.items())
        async with make_container(configuration, **ENVIRONMENT) as container:
            await deliver(container.webhooks)
            await happen(container, "grant.created", grant=uuid4())
            await deliver(container.webhooks)

    assert (len(old.received), len(new.received)) == (1, 1)
    assert (old.received[0].id, old.received[0].body) == (new.received[0].id, new.received[0].body)
    assert (len(third.received), third.refused) == (0, 1)


async def test_a_grants_events_arrive_in_order_whatever_fails(make_container: ContainerMaker) -> None:
    """With answers that fail at random, two workers bring each event once, each grant's in the order they happened."""
    chance = random.Random(7)

    def answer(_message: Received) -> Reply:
        return Reply(status=500) if chance.random() < 0.3 else TAKEN

    with WebhookReceiver(SECRET, answer) as receiver:
        async with (
            make_container(endpoint(receiver.url), **ENVIRONMENT) as container,
            make_container(endpoint(receiver.url), **ENVIRONMENT) as other,
        ):
            await deliver(container.webhooks)
            grants = await many(container, grants=12, each=5)
            workers = [impatient(container), impatient(other)]
            await asyncio.gather(*(delivered(worker, container) for worker in workers))
            assert await value(container, "SELECT delivered FROM webhook_endpoints") == 60

    by_grant: dict[str, list[int]] = defaultdict(list)
    for message in receiver.taken:
        by_grant[message.data["grant"]].append(message.data["id"])
    assert {UUID(grant) for grant in by_grant} == set(grants)
    assert all(ids == sorted(set(ids)) and len(ids) == 5 for ids in by_grant.values())
    assert len(receiver.received) > len(receiver.taken), "some attempts failed"


async def test_one_grants_failure_holds_up_that_grant_alone(make_container: ContainerMaker) -> None:
    """An event that is not taken keeps the later ones of its grant waiting; those of other grants arrive."""
    stuck, other = uuid4(), uuid4()
    with WebhookReceiver(SECRET) as receiver:
        receiver.answer = lambda message: Reply(status=500) if message.data["grant"] == str(stuck) else TAKEN
        async with make_container(endpoint(receiver.url), **ENVIRONMENT) as container:
            await deliver(container.webhooks)
            first, second = await happen(container, "grant.in_doubt", "grant.revived", grant=stuck)
            await happen(container, "grant.in_doubt", "grant.revived", grant=other)
            await deliver(container.webhooks)

            assert [message.data["grant"] for message in receiver.taken] == [str(other)] * 2
            assert [(row.event_id, row.failures) for row in await waiting(container)] == [(first, 1), (second, 0)]
            assert (await waiting(container))[0].last_error == "it answered 500"


async def test_an_event_that_commits_late_is_delivered(make_container: ContainerMaker) -> None:
    """An event whose transaction ends after a later one was read is not passed over, and comes in its place."""
    grant = uuid4()
    add = text("INSERT INTO events (type, client, grant_id) VALUES ('grant.in_doubt', 'ours', :grant)")
    with WebhookReceiver(SECRET) as receiver:
        async with make_container(endpoint(receiver.url), **ENVIRONMENT) as container:
            await deliver(container.webhooks)
            async with container.engine.connect() as slow:
                await slow.execute(add, {"grant": grant})
                await happen(container, "grant.revived", grant=grant)
                await deliver(container.webhooks)
                assert not receiver.received
                await slow.commit()
            await deliver(container.webhooks)

    assert [message.type for message in receiver.received] == ["grant.in_doubt", "grant.revived"]


async def test_a_slow_endpoint_delays_no_other(make_container: ContainerMaker) -> None:
    """While one endpoint keeps every answer to itself, another has all events; the slow one then fails by its limit."""
    with WebhookReceiver(SECRET) as slow, WebhookReceiver(SECRET) as quick:
        slow.hold()
        configuration = endpoint(slow.url, "slow", 'timeout = "1s"') + endpoint(quick.url, "quick")
        async with make_container(configuration, **ENVIRONMENT) as container:
            hooks = container.webhooks
            await deliver(hooks)
            await many(container, grants=5, each=2)
            assert await hooks.due() == ["quick", "slow"]
            waits = asyncio.create_task(hooks.deliver("slow"))
            await until(lambda: len(slow.received) == 5, 10.0, "the slow endpoint has what can be under way")
            await hooks.deliver("quick")
            assert (len(quick.taken), waits.done()) == (10, False)
            await waits
            [quick_status, slow_status] = await hooks.statuses()

    assert (quick_status.waiting, slow_status.waiting) == (0, 10)
    assert slow_status.last_error == "no answer within 1 s"
    assert slow_status.held_until is not None


async def test_one_slow_answer_holds_up_no_other_grant(make_container: ContainerMaker) -> None:
    """While one event is under way for long, what happens to other grants meanwhile is sent to the same endpoint."""
    with WebhookReceiver(SECRET) as receiver:
        receiver.hold()
        async with make_container(endpoint(receiver.url), **ENVIRONMENT) as container:
            hooks = container.webhooks
            await deliver(hooks)
            await happen(container, "grant.created", grant=uuid4())
            await hooks.due()
            at_work = asyncio.create_task(hooks.deliver("billing"))
            await until(lambda: receiver.received, 10.0, "the first is under way")
            receiver.answer = lambda _message: TAKEN
            await happen(container, "grant.created", grant=uuid4())
            assert await hooks.due() == ["billing"]
            assert await hooks.deliver("billing") == 0  # it wakes whoever is at work
            await until(lambda: receiver.taken, 10.0, "the second has arrived")
            assert not at_work.done()
            receiver.release()
            assert await at_work == 2


async def test_what_is_too_much_for_an_endpoint_waits_in_the_log(
    make_container: ContainerMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond a window events wait where they are; all of them arrive, and the count of what waits holds both."""
    monkeypatch.setattr(webhook_outbox, "WINDOW", 3)
    with WebhookReceiver(SECRET) as receiver:
        async with make_container(endpoint(receiver.url), **ENVIRONMENT) as container:
            hooks = container.webhooks
            await deliver(hooks)
            await many(container, grants=8, each=1)
            await hooks.due()
            assert len(await waiting(container)) == 3
            [status] = await hooks.statuses()
            assert status.waiting == 8
            await deliver(hooks)

    assert len(receiver.taken) == 8


async def test_more_than_one_process_never_exceeds_the_limit(make_container: ContainerMaker) -> None:
    """`max_in_flight` holds over all workers, and what is under way is claimed by one of them."""
    with WebhookReceiver(SECRET) as receiver:
        receiver.hold()
        configuration = endpoint(receiver.url, more="max_in_flight = 3")
        async with (
            make_container(configuration, **ENVIRONMENT) as container,
            make_container(configuration, **ENVIRONMENT) as other,
        ):
            await deliver(container.webhooks)
            await many(container, grants=6, each=1)
            await container.webhooks.due()
            at_work = [asyncio.create_task(found.webhooks.deliver("billing")) for found in (container, other)]
            await until(lambda: len(receiver.received) == 3, 10.0, "three are under way")
            assert await value(container, "SELECT count(*) FROM webhook_deliveries WHERE claimed_until > now()") == 3
            assert len(receiver.received) == 3
            receiver.release()
            await asyncio.gather(*at_work)
            await delivered(container.webhooks, container)

    assert len({message.id for message in receiver.received}) == len(receiver.received) == 6


async def test_only_the_status_of_an_answer_counts(make_container: ContainerMaker) -> None:
    """3xx is a failure that says what to do; 2xx has taken the event, however large its body is or if it never ends."""
    with WebhookReceiver(SECRET) as receiver:
        receiver.answer = lambda _message: Reply(status=301, headers={"location": receiver.url})
        async with make_container(endpoint(receiver.url, more='timeout = "1s"'), **ENVIRONMENT) as container:
            await deliver(container.webhooks)
            await happen(container, "grant.created", grant=uuid4())
            await deliver(container.webhooks)
            [status] = await container.webhooks.statuses()
            assert len(receiver.received) == 1
            assert status.last_error == "it answered 301, and redirects are not followed: change its url"

            receiver.answer = lambda _message: Reply(status=200, body=b"x" * 5_000_000)
            await execute(container, "UPDATE webhook_deliveries SET next_attempt_at = now()")
            await deliver(container.webhooks)
            assert not await waiting(container)

            receiver.answer = lambda _message: Reply(status=202, headers={"content-length": "100"}, body=b"to be")
            await happen(container, "grant.created", grant=uuid4())
            await deliver(container.webhooks)
            assert not await waiting(container)


async def test_many_that_wait_are_compared_with_few(make_container: ContainerMaker) -> None:
    """With statistics from before they came, a lane's first is still found along its own index, and not by a join."""
    async with make_container(endpoint("https://billing.example/hooks"), **ENVIRONMENT) as container:
        await container.webhooks.due()
        await execute(container, "ANALYZE webhook_deliveries")
        await execute(
            container,
            "INSERT INTO webhook_deliveries (endpoint, event_id, lane)"
            " SELECT 'billing', n, 'billing ' || n FROM generate_series(1, 5000) AS n",
        )
        claim = {"endpoint": "billing", "free": 10, "most": 10, "claim": timedelta(seconds=20), "claim_id": uuid4()}
        plan = await rows(container, f"EXPLAIN {_CLAIM.text}", **claim)

    assert "ix_webhook_deliveries_lane" in "\n".join(line[0] for line in plan)
