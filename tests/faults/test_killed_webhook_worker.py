"""A worker that is killed while it delivers: its claim ends, and another one sends the event again."""

from __future__ import annotations

import signal
from pathlib import Path
from uuid import uuid4

import pytest

from tests.conftest import ContainerMaker
from tests.support.database import value
from tests.support.deployment import deployed
from tests.support.waiting import wait_until
from tests.support.webhook_receiver import TAKEN, WebhookReceiver
from tests.support.webhooks import ENVIRONMENT, SECRET, delivered, endpoint, happen
from worker.domain.secret import Secret

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


async def test_what_a_killed_worker_was_sending_arrives(
    *, make_container: ContainerMaker, database_url: str, broker_url: str, keys: Secret, tmp_path: Path
) -> None:
    """After kill -9 in mid-delivery the same event comes again with the same id, before the later one of its grant."""
    with WebhookReceiver(SECRET) as receiver:
        receiver.hold()
        configuration = endpoint(receiver.url, more='timeout = "1s"')
        async with make_container(configuration, **ENVIRONMENT) as container:
            await container.webhooks.due()
            grant = uuid4()
            await happen(container, "grant.in_doubt", "grant.revived", grant=grant)
            with deployed(
                tmp_path,
                database_url=database_url,
                broker_url=broker_url,
                keys=keys,
                configuration=configuration,
                HOOK_SECRET=SECRET,
            ) as deployment:
                wait_until(lambda: receiver.received, 30.0, "the first event is under way")
                deployment.processes["worker-1"].send_signal(signal.SIGKILL)
                deployment.processes["worker-1"].wait(10.0)
                assert await value(container, "SELECT count(*) FROM webhook_deliveries WHERE claim_id IS NOT NULL") == 1
                receiver.answer = lambda _message: TAKEN
                await delivered(container.webhooks, container)  # this process is the other worker

        assert [message.type for message in receiver.taken] == ["grant.in_doubt", "grant.revived"]
        assert len(receiver.received) == 3
        assert receiver.received[0].id == receiver.received[1].id
