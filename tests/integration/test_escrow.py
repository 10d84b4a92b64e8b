"""Entries of the escrow that cannot be stored: kept, told, counted, tried again, and in nobody's way."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from redis import Redis
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from structlog.testing import CapturingLogger

from tests.conftest import WebMaker
from tests.support.database import value
from tests.support.sandbox_clients import SandboxClient, adopt, register
from tests.support.settling import claim, new_tokens
from tests.support.waiting import until
from worker.bootstrap import Container, create_container
from worker.domain.secret import Secret
from worker.embedded.startup import free_loopback_port
from worker.sandbox.server import RunningSandbox
from worker.settings import Settings
from worker.storage.sealed_settlement import SealedSettlement, seal_settlement

pytestmark = pytest.mark.anyio

#: Five entries wait; the one in the middle is made bad.
ENTRIES = 5
PATIENCE = 20.0  # seconds


class Waiting:
    """A process whose answers have gone into the escrow, and the entries there."""

    def __init__(self, container: Container, registry: CollectorRegistry, folder: Path, broker: Redis) -> None:
        self.container = container
        self.registry = registry
        self.folder = folder
        self._broker = broker

    @property
    def files(self) -> list[Path]:
        """Return the entries' files, in the order in which they are drained."""
        return sorted(self.folder.glob("*.settlement"))

    def change(self, path: Path, text: bytes) -> None:
        """Write something else into an entry, in both homes."""
        path.write_bytes(text)
        self._broker.hset("evergrant:escrow", path.name, text)

    def only_in_the_folder(self) -> None:
        """Take the entries out of the broker's server."""
        self._broker.delete("evergrant:escrow")

    def gauge(self, name: str) -> float | None:
        """Return what a gauge shows."""
        return self.registry.get_sample_value(name)

    async def stored(self) -> int:
        """Return how many grants have the tokens that waited."""
        return int(await value(self.container, "SELECT count(*) FROM grants WHERE generation = 1"))


@pytest.fixture
async def waiting(
    sandbox: RunningSandbox, database_url: str, broker_url: str, keys: Secret, tmp_path: Path
) -> AsyncIterator[Waiting]:
    """Bring the answers of five grants into the escrow, as if the database had been away."""
    client = register(sandbox)
    config = tmp_path / "evergrant.toml"
    config.write_text(client.toml, encoding="utf-8")
    settings = Settings(
        database_url=Secret(database_url),
        broker_url=Secret(broker_url),
        keys=keys,
        config=config,
        home_dir=tmp_path / "home",
    )
    registry = CollectorRegistry()
    container = create_container(settings, name="test", environment=client.environment, registry=registry)
    broker = Redis.from_url(broker_url)
    broker.delete("evergrant:escrow")
    try:
        await adopt(container, sandbox, client, ENTRIES)
        await container.escrow.put(await sealed(container, client))
        yield Waiting(container, registry, tmp_path / "home" / "escrow", broker)
    finally:
        broker.close()
        await container.close()


async def sealed(container: Container, client: SandboxClient) -> list[SealedSettlement]:
    """Claim every grant and seal new tokens for it."""
    ring = container.access_tokens.claims._keys
    claimed = (await claim(container, client, ENTRIES)).grants
    return [seal_settlement(grant.lease, new_tokens(grant.claimed_at), ring) for grant in claimed]


def without(name: str) -> Callable[[dict[str, Any]], bytes]:
    """Return what takes a member out of an entry."""
    return lambda entry: json.dumps({key: kept for key, kept in entry.items() if key != name}).encode()


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda _entry: b'{"id": "cut sh', id="cut short"),
        pytest.param(lambda _entry: b"", id="empty"),
        pytest.param(lambda _entry: b"[]", id="another kind of JSON"),
        pytest.param(lambda _entry: b"\xff\xfe\x00", id="not UTF-8"),
        pytest.param(without("generation"), id="of a version that did not guard"),
        pytest.param(without("lost_scopes"), id="of an older version, without a column"),
        pytest.param(lambda entry: json.dumps({**entry, "captured": "{"}).encode(), id="refused by the database"),
        pytest.param(lambda entry: json.dumps({**entry, "generation": 10**30}).encode(), id="beyond a column's range"),
    ],
)
async def test_one_bad_entry_holds_up_no_other(waiting: Waiting, spoil: Callable[[dict[str, Any]], bytes]) -> None:
    """Whatever is wrong with one entry, all others are stored, and it stays: in its homes, in the depth, in a gauge."""
    bad = waiting.files[ENTRIES // 2]
    spoiled = spoil(json.loads(bad.read_text(encoding="utf-8")))
    waiting.change(bad, spoiled)

    await waiting.container.dispatch.dispatch()

    assert await waiting.stored() == ENTRIES - 1
    assert [path.name for path in waiting.files] == [bad.name]
    assert bad.read_bytes() == spoiled
    assert await waiting.container.escrow.depth() == 1
    assert (waiting.gauge("evergrant_escrow_depth"), waiting.gauge("evergrant_escrow_refused")) == (1, 1)


async def test_what_to_do_about_a_bad_entry_is_in_the_log(waiting: Waiting, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log names the entry, the kind of error and a way out, and nothing that the entry holds."""
    log = CapturingLogger()
    monkeypatch.setattr("worker.observers.log", log)
    bad = waiting.files[0]
    entry = json.loads(bad.read_text(encoding="utf-8"))
    waiting.change(bad, json.dumps({**entry, "captured": "{"}).encode())

    await waiting.container.dispatch.dispatch()

    [said] = [call.kwargs for call in log.calls if call.args == ("escrow_entry_refused",)]
    assert (said["entry"], said["sqlstate"]) == (bad.name, "22P02")
    assert "evergrant db check" in said["todo"]
    assert entry["refresh_token"] not in str(said)


async def test_a_bad_entry_that_is_mended_is_stored(waiting: Waiting) -> None:
    """It is tried again, less and less often; once it can be stored it is, and nothing is counted any more."""
    bad = waiting.files[-1]
    good = bad.read_bytes()
    waiting.change(bad, b"{")
    drains = [await waiting.container.escrow.drain(waiting.container.engine) for _ in range(5)]
    assert [drained.refused for drained in drains] == [1] * 5
    waiting.change(bad, good)

    drains = [await waiting.container.escrow.drain(waiting.container.engine) for _ in range(5)]

    assert sum(drained.stored for drained in drains) == 1
    assert await waiting.stored() == ENTRIES
    assert (await waiting.container.escrow.depth(), drains[-1].refused) == (0, 0)


async def test_a_web_process_stores_what_it_could_not(
    waiting: Waiting, sandbox: RunningSandbox, make_web: WebMaker
) -> None:
    """Of a refresh on demand, too, the tokens that wait in its own folder are stored at its start, without a broker."""
    client = register(sandbox, name="another")
    waiting.only_in_the_folder()
    nowhere = f"redis://127.0.0.1:{free_loopback_port()}/0"
    with make_web(client.toml, broker=nowhere, **client.environment):
        await until(lambda: not waiting.files, PATIENCE, "the web process has stored them")
    assert await waiting.stored() == ENTRIES


async def test_a_row_that_somebody_holds_locked_holds_up_no_other(waiting: Waiting, database_url: str) -> None:
    """A statement that runs into a limit is not taken for a database that is away; its entry's turn comes again."""
    async with impatient_engine(database_url) as impatient:
        first = json.loads(waiting.files[0].read_text(encoding="utf-8"))
        async with waiting.container.engine.connect() as holder:
            await holder.exec_driver_sql(f"SELECT * FROM grants WHERE id = '{first['id']}' FOR UPDATE")
            await waiting.container.escrow.drain(impatient)
            await holder.rollback()
        assert await waiting.stored() == ENTRIES - 1

        await waiting.container.escrow.drain(impatient)

        assert await waiting.stored() == ENTRIES
        assert await waiting.container.escrow.depth() == 0


@asynccontextmanager
async def impatient_engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """Connect with a limit of 50 ms on the wait for a lock."""
    engine = create_async_engine(
        make_url(database_url).set(drivername="postgresql+psycopg"), connect_args={"options": "-c lock_timeout=50"}
    )
    try:
        yield engine
    finally:
        await engine.dispose()
