"""Three workers restarted one after another by SIGTERM, under load: nobody notices."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Final

import psycopg
import pytest
from celery import Celery
from redis import Redis

from tests.conftest import ContainerMaker
from tests.support.deployment import deployed
from tests.support.sandbox_clients import SECRET, adopt, register
from tests.support.waiting import wait_until
from tests.support.workers_present import workers_present
from worker.domain.secret import Secret
from worker.sandbox.behaviour import Behaviour, Latency
from worker.sandbox.server import RunningSandbox

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

GRANTS: Final = 90
#: Grants that a worker has not done with when it is told to stop, one after the other.
FEW: Final = 30
WORKERS: Final = 3
#: Seconds that an access token lives: each grant is rotated three times while the workers are replaced.
LIFETIME: Final = 8
PATIENCE: Final = 60.0
#: Seconds between two ticks: long beside what a ticket takes to its worker on a machine that is busy with other things,
#: so that a second tick tells of a lost ticket and not of a slow machine.
TICK: Final = 2


def _one(database_url: str, query: str) -> int | float:
    with psycopg.connect(database_url, autocommit=True) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return row[0] or 0


async def test_no_grant_is_in_doubt_and_none_is_late(
    *,
    sandbox: RunningSandbox,
    make_container: ContainerMaker,
    database_url: str,
    broker_url: str,
    keys: Secret,
    tmp_path: Path,
) -> None:
    """Each stops with 0 once its answers are stored; no doubt, no strike, no token twice, nothing later than a tick."""
    client = register(sandbox, behaviour=Behaviour(access_lifetime=LIFETIME, latency=Latency(fixed=0.3)))
    async with make_container(client.toml, **client.environment) as container:
        await adopt(container, sandbox, client, GRANTS)
    with deployed(
        tmp_path,
        database_url=database_url,
        broker_url=broker_url,
        keys=keys,
        configuration=f'{client.toml}\n[worker]\ntick = "{TICK}s"\n',
        workers=WORKERS,
        CLIENT_SECRET=SECRET,
    ) as deployment:
        wait_until(lambda: workers_present(database_url) == WORKERS, PATIENCE, "three workers are up")
        wait_until(lambda: sandbox.control.report().rotations >= GRANTS, PATIENCE, "every grant has been rotated")
        _measure_lateness(database_url)
        for number in range(1, WORKERS + 1):
            stopping = deployment.processes.pop(f"worker-{number}")
            stopping.send_signal(signal.SIGTERM)
            assert stopping.wait(PATIENCE) == 0
            deployment.start(f"worker-{number}-anew", "worker")
            wait_until(lambda: workers_present(database_url) == WORKERS, PATIENCE, "its successor is up")
            done = sandbox.control.report().rotations
            wait_until(
                lambda: sandbox.control.report().rotations >= done + GRANTS,  # noqa: B023 -- called at once
                PATIENCE,
                "they are rotated on",
            )
        assert deployment.ended() == []

    assert _one(database_url, "SELECT count(*) FROM events WHERE type = 'grant.in_doubt'") == 0
    assert _one(database_url, "SELECT max(greatest(strikes, failures, presentations)) FROM grants") == 0
    assert _one(database_url, "SELECT count(*) FROM grants WHERE state <> 'active'") == 0
    report = sandbox.control.report()
    assert (report.presented_more_than_once, report.double_spends, dict(report.errors)) == (0, 0, {})
    # All but those whose answers were on their way when the world ended.
    assert _one(database_url, "SELECT count(*) FROM lateness") > (WORKERS - 1) * GRANTS
    # Late by more than a tick: it was due at one tick, and again at the next, and only then was it claimed.
    assert _one(database_url, "SELECT max(ticks) FROM lateness") <= 1


async def test_what_a_stopping_worker_leaves_undone_it_passes_on(
    *,
    sandbox: RunningSandbox,
    make_container: ContainerMaker,
    database_url: str,
    broker_url: str,
    keys: Secret,
    tmp_path: Path,
) -> None:
    """No tick is waited for: a ticket is there at once, for whoever runs on."""
    client = register(sandbox, behaviour=Behaviour(latency=Latency(fixed=0.5)), client="max_in_flight = 1")
    async with make_container(client.toml, **client.environment) as container:
        await adopt(container, sandbox, client, FEW)
    with deployed(
        tmp_path,
        database_url=database_url,
        broker_url=broker_url,
        keys=keys,
        configuration=client.toml,
        workers=1,
        beats=0,
        CLIENT_SECRET=SECRET,
    ) as deployment:
        wait_until(lambda: workers_present(database_url) == 1, PATIENCE, "the worker is up")
        _send_ticket(broker_url, client.name)
        wait_until(lambda: sandbox.control.report().rotations >= 1, PATIENCE, "it has begun")
        stopping = deployment.processes.pop("worker-1")
        stopping.send_signal(signal.SIGTERM)
        assert stopping.wait(PATIENCE) == 0

    assert sandbox.control.report().rotations < FEW
    with Redis.from_url(broker_url) as broker:
        [ticket] = [json.loads(message)["headers"] for message in broker.lrange("evergrant:evergrant", 0, -1)]
    assert (ticket["task"], ticket["argsrepr"]) == ("evergrant.drain", f"({client.name!r},)")


def _send_ticket(broker_url: str, client: str) -> None:
    with Celery(broker=broker_url) as app:
        app.conf.broker_transport_options = {"global_keyprefix": "evergrant:"}
        app.send_task("evergrant.drain", args=(client,), queue="evergrant")


def _measure_lateness(database_url: str) -> None:
    """Let the database write down how many ticks have seen each grant due before it was claimed.

    Ticks are counted and not seconds: a tick that comes late on a busy machine makes nothing later than a tick. Each
    tick shows itself by the statement that releases brakes, which it runs just before it looks what is due.
    """
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("""
            CREATE TABLE scans (at timestamptz);
            CREATE FUNCTION note_scan() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                INSERT INTO scans VALUES (now());
                RETURN NULL;
            END $$;
            CREATE TRIGGER note_scan AFTER UPDATE ON client_status FOR EACH STATEMENT
              WHEN (current_query() LIKE '%braked_at = NULL, suspects_refreshed = 0, resumed_at%NOT EXISTS%')
              EXECUTE FUNCTION note_scan();
            CREATE TABLE lateness (at timestamptz, late interval, ticks integer);
            CREATE FUNCTION note_lateness() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                INSERT INTO lateness SELECT now(), NEW.spend_started_at - OLD.rotate_at, count(*) FROM scans
                 WHERE at > OLD.rotate_at AND at < NEW.spend_started_at;
                RETURN NULL;
            END $$;
            CREATE TRIGGER note_lateness AFTER UPDATE OF spend_started_at ON grants FOR EACH ROW
              WHEN (OLD.spend_started_at IS NULL AND NEW.spend_started_at IS NOT NULL AND OLD.rotate_at IS NOT NULL)
              EXECUTE FUNCTION note_lateness();
        """)
