"""The sandbox's state file: it outlives a restart, belongs to one sandbox at a time, and stays bounded."""

from __future__ import annotations

import hashlib
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from tests.support.sandbox_application import Clock, application, world_at
from tests.support.waiting import wait_until
from worker.sandbox.behaviour import Behaviour
from worker.sandbox.families import FamilyStatus
from worker.sandbox.misbehaviour import Misbehaviour, Order
from worker.sandbox.profiles import ASKARA
from worker.sandbox.server import RunningSandbox
from worker.sandbox.store import StateFileError
from worker.sandbox.token_meaning import Delivery


def test_everything_survives_a_restart(tmp_path: Path) -> None:
    """Clients, families, consumed tokens, access tokens, orders and counts are there after a restart."""
    state, behaviour = tmp_path / "state.db", Behaviour(reuse_revokes_family=False, access_lifetime=777)
    with RunningSandbox(state_path=state) as sandbox, application(sandbox, ASKARA, behaviour) as client:
        grant = client.seed_one()
        newest = client.refreshed(grant.refresh_token)
        sandbox.control.order(Order(kind=Misbehaviour.THROTTLED, times=2, client_id=client.client_id))
        assert client.refresh(newest).status_code == 429
        client_id = client.client_id

    with (
        RunningSandbox(state_path=state) as sandbox,
        application(sandbox, ASKARA, client_id=client_id) as client,
    ):
        assert client.refresh(newest).status_code == 429
        assert client.refresh(grant.refresh_token).json()["error"] == "invalid_grant"
        assert client.refresh(newest).json()["expires_in"] == 777
        assert sandbox.control.account_of(grant.access_token) == grant.account
        assert sandbox.control.standing_orders() == []
        report = sandbox.control.report(client_id)

    assert (report.refreshes_presented, report.rotations, report.double_spends) == (5, 2, 1)
    assert report.faults == {Misbehaviour.THROTTLED: 2}


def test_the_grace_survives_a_restart_and_the_file_holds_no_token(tmp_path: Path) -> None:
    """The kept pair is given again after a restart, though the file shows no token and no secret in the clear."""
    state = tmp_path / "state.db"
    with (
        RunningSandbox(state_path=state) as sandbox,
        application(sandbox, ASKARA, Behaviour(reuse_grace=600)) as client,
    ):
        old = client.seed_one().refresh_token
        first = client.refresh(old).json()
        client_id, secret = client.client_id, client.client_secret
    content = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert secret is not None
    for clear in (old.reveal(), first["refresh_token"], first["access_token"], secret):
        assert clear.encode() not in content
    assert hashlib.sha256(old.reveal().encode()).digest() in content

    with RunningSandbox(state_path=state) as sandbox, application(sandbox, ASKARA, client_id=client_id) as client:
        again = client.refresh(old).json()

    assert again["refresh_token"] == first["refresh_token"]


def test_stopping_breaks_off_a_stall_whose_answer_counts_as_lost(tmp_path: Path) -> None:
    """A sandbox stops at once though an answer stalls; the client sees the end, and its next try is no double spend."""
    state = tmp_path / "state.db"
    with ThreadPoolExecutor(1) as pool:
        with RunningSandbox(state_path=state) as sandbox, application(sandbox, ASKARA) as client:
            client_id, http = client.client_id, httpx.Client(verify=False)
            token = client.seed_one().refresh_token
            sandbox.control.order(Order(kind=Misbehaviour.STALL, stall=300, times=1))
            waiting = pool.submit(replace(client, http=http).refresh, token, timeout=60)
            wait_until(
                lambda: sandbox.control.refresh_token_record(token).delivery is Delivery.IN_FLIGHT,
                30,
                "the stalled answer is in flight",
            )
        with closing(http), pytest.raises(httpx.RemoteProtocolError):
            waiting.result()

    with RunningSandbox(state_path=state) as sandbox, application(sandbox, ASKARA, client_id=client_id) as client:
        assert sandbox.control.refresh_token_record(token).delivery is Delivery.LOST
        assert client.refresh(token).json()["error"] == "invalid_grant"
        assert sandbox.control.report(client_id).double_spends == 0


def test_a_state_file_belongs_to_one_sandbox(tmp_path: Path) -> None:
    """A second sandbox on the same file is refused with a message that names the file."""
    state = tmp_path / "state.db"
    with (
        RunningSandbox(state_path=state),
        pytest.raises(StateFileError, match=f"{state}: database is locked; stop the other sandbox"),
        RunningSandbox(state_path=state),
    ):
        pass


def test_a_file_that_is_no_state_is_refused(tmp_path: Path) -> None:
    """Text, another version's state and a missing folder are refused with what to do."""
    (tmp_path / "text").write_text("not a database, but long enough to be looked at as one\n" * 20)
    with sqlite3.connect(tmp_path / "newer.db") as newer:
        newer.execute("PRAGMA user_version = 99")
    newer.close()

    for name, said in [("text", "not a database"), ("newer.db", "version 99"), ("no/such", "unable to open")]:
        with pytest.raises(StateFileError, match=said), RunningSandbox(state_path=tmp_path / name):
            pass


def test_tokens_of_families_long_gone_are_forgotten(tmp_path: Path) -> None:
    """With the retention over, the tokens of revoked and expired families go; a living family keeps all of its own."""
    state, clock = tmp_path / "state.db", Clock()
    with (
        RunningSandbox(state_path=state, world=world_at(clock), retention=50) as sandbox,
        application(sandbox, ASKARA, Behaviour(refresh_idle_timeout=100)) as client,
    ):
        revoked, expired, alive, recent = client.seed(4)
        sandbox.control.revoke_family(revoked.family_id)
        clock.advance(90)
        newest = client.refreshed(alive.refresh_token)
        client.refreshed(recent.refresh_token)
        clock.advance(60)
        sandbox.control.revoke_family(recent.family_id)
        clock.advance(10)
        client_id = client.client_id
    with sqlite3.connect(state) as before:
        assert before.execute("SELECT count(*) FROM refresh_tokens").fetchone() == (6,)
    before.close()

    with (
        RunningSandbox(state_path=state, world=world_at(clock), retention=50) as sandbox,
        application(sandbox, ASKARA, client_id=client_id) as client,
    ):
        report = sandbox.control.report(client_id)
        assert report.families == {FamilyStatus.ALIVE: 1, FamilyStatus.REVOKED: 2, FamilyStatus.EXPIRED: 1}
        assert client.refresh(recent.refresh_token).json()["error_description"] == "the grant was revoked"
        assert client.refresh(revoked.refresh_token).json()["error_description"] == "the refresh token is unknown"
        assert client.refresh(expired.refresh_token).json()["error_description"] == "the refresh token is unknown"
        client.refreshed(newest)
        assert client.refresh(alive.refresh_token).json()["error"] == "invalid_grant"
        assert sandbox.control.report(client_id).double_spends == 2
