"""The services of a home folder together: up once, gone with their process, and found again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from tests.integration.embedded_parent import (
    ROOT,
    interpreter_environment,
    left_after,
    parent_command,
    processes_naming,
    running_parent,
    token,
)
from worker.embedded import EmbeddedServiceError, EmbeddedServices, FolderLock, running_services

NOBODY = 65534


def make_services(home: Path, *, want_database: bool = True, want_broker: bool = True) -> EmbeddedServices:
    """Describe services that do not wait for the disk."""
    return EmbeddedServices(
        home,
        want_database=want_database,
        want_broker=want_broker,
        token=token,
        monotonic=time.monotonic,
        durable=False,
    )


def insert_row(database_url: str) -> int:
    """Commit one row more and return how many there are."""
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (n int)")
        connection.execute("INSERT INTO kept VALUES (1)")
        row = connection.execute("SELECT count(*) FROM kept").fetchone()
        assert row is not None
        return int(row[0])


def ping(broker_url: str) -> bool:
    """Whether the broker answers."""
    with redis.Redis.from_url(broker_url, socket_timeout=5) as client:
        return bool(client.ping())


def test_killed_parent_leaves_no_process_and_no_lock(tmp_path: Path) -> None:
    """SIGKILL of the process that started the services ends all of theirs; the next start has its committed rows."""
    home = tmp_path / "home"
    for expected in (1, 2):
        with running_parent(home) as parent:
            assert len(parent.pids) > 2
            assert insert_row(parent.database_url) == expected
            assert ping(parent.broker_url)

            parent.process.send_signal(signal.SIGKILL)
            parent.process.wait(timeout=30)

        assert left_after(parent.pids) == []
        assert processes_naming(str(home)) == []
        assert running_services(home) is None

    with make_services(home) as services:
        urls = running_services(home)
        assert urls is not None
        assert urls.database is not None
        assert insert_row(urls.database.reveal()) == 3
        assert services.ended() is None


def test_start_right_after_the_kill_waits_for_the_old_server(tmp_path: Path) -> None:
    """A start in the very moment after the parent's death finds the old server still going down, and succeeds."""
    home = tmp_path / "home"
    with running_parent(home) as parent:
        insert_row(parent.database_url)
        parent.process.kill()
        parent.process.wait(timeout=30)

    with make_services(home) as services:
        assert services.postgres is not None
        assert insert_row(services.postgres.start().reveal()) == 2
    assert left_after(parent.pids, seconds=0) == []


def test_ordered_stop_leaves_no_process(tmp_path: Path) -> None:
    """When the parent ends by itself it stops its services and takes down the note where they run."""
    home = tmp_path / "home"
    with running_parent(home) as parent:
        assert parent.process.stdin is not None
        parent.process.stdin.close()

        assert parent.process.wait(timeout=30) == 0

    assert left_after(parent.pids, seconds=0) == []
    assert not (home / "running.json").exists()


def test_second_up_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    """A second process on the same home gets one error with the first one's pid; the first goes on."""
    home = tmp_path / "home"
    with running_parent(home) as parent:
        with pytest.raises(EmbeddedServiceError, match=rf"process {parent.process.pid}\) already uses .*HOME_DIR"):
            make_services(home).start()

        assert insert_row(parent.database_url) == 1
        assert ping(parent.broker_url)


def test_other_commands_find_the_running_services(tmp_path: Path) -> None:
    """While they run, and only then, another command of the same user learns where; the note is for its owner only."""
    home = tmp_path / "home"
    assert running_services(home) is None
    with running_parent(home) as parent:
        found = running_services(home)

        assert found is not None
        assert found.database is not None
        assert found.broker is not None
        assert (found.database.reveal(), found.broker.reveal()) == (parent.database_url, parent.broker_url)
        assert (home / "running.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("want_database", "want_broker"), [(False, True), (False, False)])
def test_only_what_is_wanted_is_started(tmp_path: Path, *, want_database: bool, want_broker: bool) -> None:
    """A service of one's own is not doubled; the home folder is locked all the same."""
    services = make_services(tmp_path, want_database=want_database, want_broker=want_broker)
    urls = services.start()
    try:
        assert (urls.database is not None, urls.broker is not None) == (want_database, want_broker)
        assert (tmp_path / "postgres").exists() == want_database
        assert (tmp_path / "valkey").exists() == want_broker
        assert running_services(tmp_path) == urls
        with pytest.raises(EmbeddedServiceError, match=f"process {os.getpid()}"):
            FolderLock(tmp_path).acquire()
    finally:
        services.stop()
    services.stop()

    with FolderLock(tmp_path):
        assert processes_naming(str(tmp_path)) == []


def test_failed_start_stops_what_was_started(tmp_path: Path) -> None:
    """When the broker cannot start, the database that was up already is stopped and the lock is free again."""
    (tmp_path / "valkey").mkdir()
    (tmp_path / "valkey" / "written-by").write_text("valkey 99.0.0\n")

    with pytest.raises(EmbeddedServiceError, match=r"written by valkey 99\.0\.0"):
        make_services(tmp_path).start()

    assert (tmp_path / "postgres" / "data").exists()
    assert processes_naming(str(tmp_path)) == []
    with FolderLock(tmp_path):
        assert running_services(tmp_path) is None


def test_service_that_ends_by_itself_is_reported(tmp_path: Path) -> None:
    """The one who watches learns which service has ended, how, and where its log is."""
    with make_services(tmp_path, want_database=False) as services:
        assert services.valkey is not None
        assert services.valkey.process is not None
        psutil.Process(services.valkey.process.pid).kill()
        services.valkey.process.wait(timeout=30)

        said = services.ended()

    assert said is not None
    assert "Valkey has ended (exit status -9)" in said
    assert str(tmp_path / "valkey" / "valkey.log") in said


@pytest.fixture
def folder_of_nobody() -> Iterator[Path]:
    """Make a folder of user nobody that nobody can reach, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="evergrant-test-"))
    os.chown(folder, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="this user is an ordinary one already, so every other test shows it")
def test_ordinary_user_runs_the_services(folder_of_nobody: Path) -> None:
    """An ordinary user's services run as that user; root on the same folder afterwards gets one clear error."""
    home = folder_of_nobody / "home"

    with running_parent(home, user=NOBODY) as parent:
        assert {psutil.Process(pid).uids().effective for pid in parent.pids} == {NOBODY}
        assert insert_row(parent.database_url) == 1
        assert ping(parent.broker_url)
        parent.process.kill()
        parent.process.wait(timeout=30)
    assert left_after(parent.pids) == []

    # PostgreSQL's folder fits, for root's server runs as nobody as well; the broker's does not.
    with pytest.raises(EmbeddedServiceError, match=r"valkey belongs to user .*65534.* but user root .* is needed"):
        make_services(home).start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder that belongs to somebody else")
def test_folder_of_root_is_refused_to_an_ordinary_user(folder_of_nobody: Path) -> None:
    """An ordinary user on a home folder that root has used gets one error that names the owner and the remedy."""
    home = folder_of_nobody / "home"
    with make_services(home, want_database=False, want_broker=False):
        pass

    ended = subprocess.run(
        parent_command(home, user=NOBODY),
        capture_output=True,
        check=False,
        cwd=ROOT,
        env=interpreter_environment(),
        text=True,
        timeout=60,
    )

    last = ended.stderr.splitlines()[-1]
    assert "up.lock cannot be opened by user" in last
    assert "belongs to user root" in last
    assert "run as that user, or set EVERGRANT_HOME_DIR" in last
