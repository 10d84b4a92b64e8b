"""`keys rotate` while every grant is rotated too, killed again and again: nothing fails and nothing is missed.

`EVERGRANT_TEST_GRANTS=200000` makes it a long one.
"""

from __future__ import annotations

import os
import re
import signal
from functools import partial
from pathlib import Path
from typing import Final

import psycopg
import pytest

from tests.conftest import ContainerMaker
from tests.support.command_line import CommandLine
from tests.support.deployment import deployed
from tests.support.sandbox_clients import SECRET, adopt, register
from tests.support.waiting import wait_until
from worker.domain.secret import Secret
from worker.sandbox.behaviour import Behaviour
from worker.sandbox.server import RunningSandbox
from worker.storage.sealing import REFRESH_TOKEN, KeyRing, generate_key, key_id_of, parse_keys

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

#: Grants that are rotated all the time, at the sandbox.
ROTATED: Final = 60
#: Grants that are only there: `keys rotate` walks through them while it is killed.
RESTING: Final = int(os.environ.get("EVERGRANT_TEST_GRANTS", "20000"))
KILLS: Final = 3
_FAR: Final = "2126-01-01Z"
PATIENCE: Final = 60.0


def _fill(database_url: str, ring: KeyRing, count: int) -> None:
    with psycopg.connect(database_url) as connection:
        ids = [row[0] for row in connection.execute("SELECT gen_random_uuid() FROM generate_series(1, %s)", [count])]
        with (
            connection.cursor() as cursor,
            cursor.copy(
                "COPY grants (id, client, subject, state, refresh_token, rotate_at, access_expires_at) FROM STDIN"
            ) as copy,
        ):
            for number, row in enumerate(ids):
                sealed = ring.seal(Secret(f"resting {number}"), REFRESH_TOKEN, row)
                copy.write_row((row, "askara-test", f"resting-{number}", "active", sealed, _FAR, _FAR))


def _counts(database_url: str) -> tuple[int, int]:
    with psycopg.connect(database_url) as connection:
        row = connection.execute(
            """SELECT count(*) FILTER (WHERE substring(refresh_token FROM 3 FOR 3) = 'new'), count(*) FROM grants"""
        ).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def _has_come_to(database_url: str, rows: int) -> bool:
    return _counts(database_url)[0] >= rows


async def test_nothing_fails_and_nothing_is_missed(
    *,
    sandbox: RunningSandbox,
    make_container: ContainerMaker,
    database_url: str,
    broker_url: str,
    keys: Secret,
    tmp_path: Path,
) -> None:
    """Killed with kill -9 in the midst and run again, it ends: every token opens with the new key alone."""
    client = register(sandbox, behaviour=Behaviour(access_lifetime=4))
    async with make_container(client.toml, **client.environment) as container:
        await adopt(container, sandbox, client, ROTATED)
    _fill(database_url, KeyRing(parse_keys(keys), os.urandom), RESTING)
    new = generate_key("new", os.urandom)
    both = Secret(f"{new.reveal()},{keys.reveal()}")
    with deployed(
        tmp_path,
        database_url=database_url,
        broker_url=broker_url,
        keys=both,
        configuration=client.toml,
        workers=2,
        CLIENT_SECRET=SECRET,
    ) as deployment:
        wait_until(lambda: sandbox.control.report().rotations > ROTATED, PATIENCE, "every grant is rotated")
        command = CommandLine(folder=tmp_path, environment=deployment.environment)
        for _number in range(KILLS):
            further = min(_counts(database_url)[0] + 500, RESTING)
            killed = command.start("keys", "rotate")
            wait_until(partial(_has_come_to, database_url, further), PATIENCE, "it has begun")
            killed.send_signal(signal.SIGKILL)
            killed.wait(10.0)
        ended = command.run("keys", "rotate")
        rotations = sandbox.control.report().rotations
        wait_until(lambda: sandbox.control.report().rotations > rotations + ROTATED, PATIENCE, "they are rotated still")
        assert deployment.ended() == []
        logs = deployment.log("worker-1") + deployment.log("worker-2")

    assert ended.code == 0, ended.err  # of many grants it also says how far it has come
    assert re.search(r"^[\d,]+ rows and 0 entries of the escrow are sealed anew under new$", ended.out.strip())
    assert _counts(database_url) == (ROTATED + RESTING, ROTATED + RESTING)
    ring = KeyRing(parse_keys(new), os.urandom)
    with psycopg.connect(database_url) as connection:
        for row, token, subject in connection.execute("SELECT id, refresh_token, subject FROM grants"):
            opened = ring.open(token, REFRESH_TOKEN, row).reveal()
            assert not subject.startswith("resting-") or opened == subject.replace("-", " ")
        states = connection.execute("SELECT DISTINCT state FROM grants").fetchall()
        other = connection.execute("SELECT access_token FROM grants WHERE access_token IS NOT NULL").fetchall()
    assert states == [("active",)]
    assert {key_id_of(token) for (token,) in other} == {"new"}
    assert "error" not in logs.lower(), logs
    assert sandbox.control.report().presented_more_than_once == 0
