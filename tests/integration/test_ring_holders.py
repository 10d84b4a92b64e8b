"""A process with an older ring stands in the way of a change of keys for as long as it lives, and is named."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from subprocess import Popen
from typing import Any, Final

import psycopg
import pytest

from tests.conftest import ContainerMaker
from tests.support.database import value
from tests.support.installation import Installation, installed
from tests.support.sandbox_clients import adopt, register
from tests.support.settling import claim, new_tokens
from tests.support.waiting import wait_until
from tests.support.workers_present import workers_present
from worker.domain.secret import Secret
from worker.keys_bootstrap import create_key_records
from worker.sandbox.server import RunningSandbox
from worker.storage.ring_holders import GONE_AFTER, escrow_reports, live_holders
from worker.storage.sealed_settlement import seal_settlement
from worker.storage.sealing import KeyRing, generate_key, key_id_of, parse_keys

pytestmark = pytest.mark.slow

#: Seconds for a process to start, on a machine with other things to do.
PATIENCE: Final = 60.0


@pytest.fixture
def installation(
    tmp_path: Path, database_server: str, migrated_template: str, broker_url: str
) -> Iterator[Installation]:
    """Set up an installation whose key ring lies in a file."""
    with installed(tmp_path, database_server, migrated_template) as ready:
        path = tmp_path / "keys"
        path.write_text(ready.keys.reveal() + "\n", encoding="utf-8")
        yield ready.having(EVERGRANT_KEYS=None, EVERGRANT_KEYS_FILE=str(path), EVERGRANT_BROKER_URL=broker_url)


def _start(ours: Installation, *command: str) -> Popen[Any]:
    """Start a process and wait until it has noted its ring."""
    process = ours.command_line.start(*command)
    noted = f"SELECT 1 FROM ring_holders WHERE pid = {process.pid}"
    wait_until(lambda: ours.query(noted), PATIENCE, "the process notes its ring")
    return process


def _shift(ours: Installation, pid: int, span: timedelta) -> None:
    """Let a process's last note be so much older."""
    with psycopg.connect(ours.database_url) as connection:
        connection.execute("UPDATE ring_holders SET seen_at = seen_at - %s WHERE pid = %s", [span, pid])


def test_a_web_process_with_an_older_ring_is_in_the_way(installation: Installation) -> None:
    """No key is put first that it lacks, nothing is sealed anew and none is retired, until it was restarted."""
    ours = installation
    ours.adopt(ours.seed())
    web = _start(ours, "web", "--port", "0")
    try:
        assert ours.run_quickly("keys", "add", "k2").code == 0
        promoted = ours.run_quickly("keys", "promote", "k2")
        assert promoted.code == 1
        who = f"web on {socket.gethostname()} (pid {web.pid}, since 20"
        assert "these run without k2 and could not open what it seals" in promoted.err
        assert who in promoted.err

        assert ours.run_quickly("keys", "promote", "k2", "--force").code == 0
        for words in (["rotate"], ["retire", "k1"]):
            said = ours.run_quickly("keys", *words)
            assert said.code == 1
            assert "these run with another ring and do not seal under k2" in said.err
            assert who in said.err
            assert "ring k1" in said.err
    finally:
        web.send_signal(signal.SIGTERM)
        web.wait(PATIENCE)

    assert ours.query("SELECT 1 FROM ring_holders") == []
    anew = _start(ours, "web", "--port", "0")
    try:
        ended = [ours.run_quickly("keys", *words) for words in (["rotate"], ["retire", "k1"])]
    finally:
        anew.kill()
        anew.wait(PATIENCE)
    assert [one.code for one in ended] == [0, 0], ended


def test_a_worker_is_in_the_way_after_it_reconnected_and_not_for_long_after_its_death(
    installation: Installation,
) -> None:
    """A session that is younger than the key tells nothing of its ring; a killed process counts for a minute."""
    ours = installation
    worker = _start(ours, "worker")
    try:
        wait_until(lambda: workers_present(ours.database_url) == 1, PATIENCE, "the worker is up")
        for words in (["add", "k2"], ["promote", "k2", "--force"], ["list"]):
            assert ours.run_quickly("keys", *words).code == 0
        with psycopg.connect(ours.database_url) as connection:
            sessions = (
                "FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'evergrant worker%'"
            )
            connection.execute(f"SELECT pg_terminate_backend(pid) {sessions}")
        wait_until(lambda: workers_present(ours.database_url) == 1, PATIENCE, "it has reconnected")
        assert ours.query(f"SELECT min(backend_start) > (SELECT max(first_used_at) FROM sealing_keys) {sessions}") == [
            (True,)
        ]
        alive = ours.run_quickly("keys", "retire", "k1")
    finally:
        worker.kill()
        worker.wait(PATIENCE)
    _shift(ours, worker.pid, GONE_AFTER - timedelta(seconds=30))
    just_killed = ours.run_quickly("keys", "retire", "k1")
    # A server that has started within the minute counts what it was told before, too: hence more than that minute.
    _shift(ours, worker.pid, timedelta(days=2))
    gone = ours.run_quickly("keys", "retire", "k1")

    for refused in (alive, just_killed):
        assert refused.code == 1
        assert f"worker on {socket.gethostname()} (pid {worker.pid}, since" in refused.err
    assert gone.code == 0, gone.err


@pytest.mark.anyio
async def test_a_process_that_was_cut_off_while_its_key_was_retired_says_so(
    make_container: ContainerMaker,
) -> None:
    """It asks to be restarted, and whoever starts without its key hears that the key is needed."""
    async with make_container("") as container:
        records = create_key_records(container.settings)
        records.check()
        async with container.ring_note.kept():
            [holder] = await live_holders(container.engine)
            assert (holder.role, holder.pid, holder.key_ids) == ("test", os.getpid(), ("test",))
            assert container.complaints() == []
            records.forget("test")
            await container.ring_note.write()
            await container.ring_note.write()
            assert container.complaints() == ["the key 'test' that it seals under was retired"]
        assert await value(container, "SELECT id FROM sealing_keys") == "test"


@pytest.fixture
def rings(keys: Secret) -> tuple[Secret, Secret, Secret]:
    """Give the ring of before, one with a new key in front of it, and the new key alone."""
    new = generate_key("next", os.urandom)
    return keys, Secret(f"{new.reveal()},{keys.reveal()}"), new


@pytest.mark.anyio
async def test_what_another_machine_holds_keeps_its_key(
    sandbox: RunningSandbox,
    make_container: ContainerMaker,
    rings: tuple[Secret, Secret, Secret],
) -> None:
    """A folder with an entry under a key is told after its process's end, until a process there has stored it.

    It is then stored under the key that seals now; without its own key it is left where it is.
    """
    old, both, new = rings
    client = register(sandbox)
    async with make_container(client.toml, key_ring=old, **client.environment) as container:
        await adopt(container, sandbox, client, 1)
        [grant] = (await claim(container, client, 1)).grants
        sealed = seal_settlement(grant.lease, new_tokens(grant.claimed_at), KeyRing(parse_keys(old), os.urandom))
        await container.escrow.put([sealed])
        async with container.ring_note.kept():
            pass
    async with make_container(client.toml, key_ring=new, **client.environment) as container:
        assert await live_holders(container.engine) == []
        [report] = await escrow_reports(container.engine)
        assert (report.host, Path(report.home).name, report.entries) == (socket.gethostname(), "home", {"test": 1})
        assert (await container.escrow.drain(container.engine)).refused == 1
        assert await value(container, "SELECT generation FROM grants") == 0

    async with make_container(client.toml, key_ring=both, **client.environment) as container:
        assert (await container.escrow.drain(container.engine)).stored == 1
        stored = await value(container, "SELECT refresh_token FROM grants WHERE generation = 1")
        await container.ring_note.write()
        assert [one.entries for one in await escrow_reports(container.engine)] == [{}]
    assert key_id_of(stored) == "next"


def test_an_entry_on_another_machine_is_named(installation: Installation) -> None:
    """`keys retire` refuses with the machine, the folder and how much waits there; --force leaves it behind."""
    ours = installation
    for words in (["add", "k2"], ["promote", "k2"], ["rotate"]):
        assert ours.run_quickly("keys", *words).code == 0
    with psycopg.connect(ours.database_url) as connection:
        connection.execute(
            "INSERT INTO ring_holders (id, role, host, pid, home, key_ids, escrow, ended_at) VALUES "
            "(gen_random_uuid(), 'worker', 'node-7', 1, '/var/lib/evergrant', '{k1}', '{\"k1\": 3, \"k2\": 1}', now())"
        )
    refused = ours.run_quickly("keys", "retire", "k1")
    forced = ours.run_quickly("keys", "retire", "k1", "--force")

    assert (refused.code, forced.code) == (1, 0)
    assert "entries of the escrow need k1: node-7:/var/lib/evergrant/escrow (3 under k1, seen 20" in refused.err
