"""Events over the API: newest last, page by page, and none left out however their transactions end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from tests.conftest import ContainerMaker, WebMaker
from tests.support.api import api
from tests.support.running_web import RunningWeb
from tests.support.sandbox_clients import SandboxClient, adopt, register
from worker.sandbox.server import RunningSandbox
from worker.storage.event_log import read_events


@pytest.fixture
def clients(sandbox: RunningSandbox) -> list[SandboxClient]:
    """Register two clients."""
    return [register(sandbox, name=name) for name in ("ours", "theirs")]


@pytest.fixture
def web(clients: list[SandboxClient], make_web: WebMaker) -> Iterator[RunningWeb]:
    """Serve the API."""
    with make_web("".join(client.toml for client in clients), **clients[0].environment) as running:
        yield running


def follow(http: httpx.Client, **query: Any) -> tuple[list[dict[str, Any]], str]:
    """Read pages until there is nothing new, and return all events and the cursor to go on with."""
    found: list[dict[str, Any]] = []
    cursor = query.pop("cursor", "0")
    while True:
        page = http.get("/v1/events", params={**query, "cursor": cursor}).json()
        cursor = page["next"]
        if not page["items"]:
            return found, cursor
        found += page["items"]


def test_events_are_read_once_each_in_order(
    sandbox: RunningSandbox, web: RunningWeb, clients: list[SandboxClient]
) -> None:
    """Pages follow each other without a gap; filters hold; later the cursor brings what has happened since."""
    with api(web) as http:
        [(first, _), *_] = web.run(adopt(web.container, sandbox, clients[0], 3, due=False))
        web.run(adopt(web.container, sandbox, clients[1], 2, due=False))
        http.post(f"/v1/grants/{first}/pause")

        every, cursor = follow(http, limit=2)
        ours, _ = follow(http, client="ours", limit=2)
        of_first, _ = follow(http, grant=str(first))
        http.post(f"/v1/grants/{first}/resume")
        later, _ = follow(http, cursor=cursor)

    ids = [event["id"] for event in every]
    assert ids == sorted(set(ids))
    assert [(event["type"], event["client"]) for event in every] == [
        *[("grant.created", "ours")] * 3,
        *[("grant.created", "theirs")] * 2,
        ("grant.paused", "ours"),
    ]
    assert ours == [event for event in every if event["client"] == "ours"]
    assert of_first == [event for event in every if event["grant"] == str(first)]
    assert of_first[-1]["data"] == {"generation": 0, "reason": "operator"}
    assert [event["type"] for event in later] == ["grant.resumed"]


@pytest.mark.anyio
async def test_an_event_that_commits_late_is_not_passed_over(make_container: ContainerMaker) -> None:
    """While a transaction with an earlier id is open, later events wait; with its end all of them come, in order."""
    add = text("INSERT INTO events (type, client) VALUES (:type, 'ours')")
    async with make_container("") as container:
        async with container.engine.connect() as slow:
            await slow.execute(add, {"type": "early"})
            async with container.engine.begin() as quick:
                await quick.execute(add, {"type": "late"})

            reading = asyncio.create_task(read_events(container.engine, after=0, limit=10))
            done, _ = await asyncio.wait({reading}, timeout=0.1)
            assert not done
            await slow.commit()
            page = await reading

        assert [event.type for event in page.events] == ["early", "late"]
        assert page.after == page.events[-1].id


@pytest.mark.anyio
async def test_what_stays_open_is_not_waited_for_forever(make_container: ContainerMaker) -> None:
    """After a second the answer is that there is nothing new yet, and the cursor stays where it was."""
    add = text("INSERT INTO events (type, client) VALUES (:type, 'ours')")
    async with make_container("") as container:
        async with container.engine.begin() as connection:
            await connection.execute(add, {"type": "first"})
        read = await read_events(container.engine, after=0, limit=10)
        async with container.engine.connect() as slow:
            await slow.execute(add, {"type": "open"})
            async with container.engine.begin() as quick:
                await quick.execute(add, {"type": "late"})

            waited = await read_events(container.engine, after=read.after, limit=10)
            await slow.rollback()

        assert (list(waited.events), waited.after) == ([], read.after)
        after = await read_events(container.engine, after=waited.after, limit=10)
        assert [event.type for event in after.events] == ["late"]
