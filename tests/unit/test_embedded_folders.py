"""The folders of the services: whose they are, their lock, their logs and the pid file in them."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.embedded.binaries import PostgresPrograms
from worker.embedded.errors import EmbeddedServiceError
from worker.embedded.folder_lock import FolderLock, is_held
from worker.embedded.postgres_data import PostgresData, may_be_server_of
from worker.embedded.server_log import ServerLog
from worker.embedded.service_folder import claim_folder, write_private
from worker.embedded.valkey import quoted

US = {"uid": os.geteuid(), "gid": os.getegid()}

DATA = Path("/var/lib/evergrant/postgres/data")


def test_lock_is_exclusive_and_can_be_taken_again(tmp_path: Path) -> None:
    """While it is held nobody else gets it, not even in the same process, and afterwards anybody does."""
    assert not is_held(tmp_path)
    for _ in range(2):
        with FolderLock(tmp_path):
            assert is_held(tmp_path)
            with pytest.raises(EmbeddedServiceError, match=rf"process {os.getpid()}\) already uses {tmp_path}"):
                FolderLock(tmp_path).acquire()
        assert not is_held(tmp_path)


def test_lock_goes_with_its_process(tmp_path: Path) -> None:
    """A process killed with SIGKILL holds no lock any more, though its pid still stands in the file."""
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from worker.embedded.folder_lock import FolderLock\n"
        "FolderLock(Path(sys.argv[1])).acquire()\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, ["", *sys.path]))}
    with subprocess.Popen(
        [sys.executable, "-c", program, tmp_path], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert is_held(tmp_path)
        holder.kill()

    assert (tmp_path / "up.lock").read_text() == f"{holder.pid}\n"
    assert not is_held(tmp_path)
    with FolderLock(tmp_path):
        assert (tmp_path / "up.lock").read_text() == f"{os.getpid()}\n"


def test_someone_looking_is_no_second_holder(tmp_path: Path) -> None:
    """A command that looks whether the lock is held does not make it fail for the one who takes it."""
    (tmp_path / "up.lock").touch()
    with (tmp_path / "up.lock").open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        lock = FolderLock(tmp_path)
        with pytest.raises(EmbeddedServiceError, match="process unknown"):
            lock.acquire()
        fcntl.flock(looking, fcntl.LOCK_UN)

        with lock:
            assert is_held(tmp_path)


def test_lock_that_cannot_be_opened_names_the_owner(tmp_path: Path) -> None:
    """A lock file that cannot be opened is one error with the folder's owner and the setting to change."""
    (tmp_path / "up.lock").mkdir()

    with pytest.raises(EmbeddedServiceError, match=rf"belongs to user .*\(id {os.geteuid()}\).*EVERGRANT_HOME_DIR"):
        FolderLock(tmp_path).acquire()


def test_claimed_folder_is_private(tmp_path: Path) -> None:
    """A new folder is for its owner only, and claiming it again changes nothing."""
    folder = tmp_path / "a" / "b"
    for _ in range(2):
        claim_folder(folder, **US)
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "file").touch()


def test_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """A folder with another owner's data is left alone; the error names both users and the remedy."""
    (tmp_path / "file").touch()

    with pytest.raises(
        EmbeddedServiceError, match=rf"belongs to user .*\(id {os.geteuid()}\), but .* chown -R 4242:7 "
    ):
        claim_folder(tmp_path, uid=4242, gid=7)


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """Where no folder can be, the error says where and why."""
    (tmp_path / "file").touch()

    with pytest.raises(EmbeddedServiceError, match=r"file/folder cannot be used by user .*: Not a directory"):
        claim_folder(tmp_path / "file" / "folder", **US)


def test_private_file_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    """A private file is written anew whatever a cut-off attempt left, with no right for others at any time."""
    (tmp_path / "secret.new").write_text("left over")
    (tmp_path / "secret").write_text("old")
    (tmp_path / "secret").chmod(0o644)

    write_private(tmp_path / "secret", "new\n", **US)

    assert (tmp_path / "secret").read_text() == "new\n"
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_log_is_put_aside_and_quoted(tmp_path: Path) -> None:
    """Each start has a log of its own, keeps the one before, and an error quotes the end with the path."""
    log = ServerLog(tmp_path / "server.log")
    assert (log.size(), log.since(0)) == (0, "")
    assert "(nothing)" in log.ending()
    log.begin()
    log.path.write_text("".join(f"line {number}\n" for number in range(30)))

    assert log.since(log.size() - len("line 29\n")) == "line 29\n"
    assert "line 29" in log.ending()
    assert "line 17\n" not in log.ending()
    assert str(log.path) in log.ending()

    log.begin()
    assert log.size() == 0
    assert (tmp_path / "server.log.1").read_text().startswith("line 0\n")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["/usr/lib/postgresql/15/bin/postgres", "-D", str(DATA), "-c", "port=1"], True),
        (["/usr/lib/postgresql/15/bin/postgres", "-D", "/var/lib/other"], False),
        (["postgres", "-D", "data"], True),
        (["postgres"], True),
        (["postgres: walwriter "], False),
        (["/usr/bin/python3", "-D", str(DATA)], False),
        ([""], False),
    ],
)
def test_server_of_the_data_is_recognised(words: list[str], expected: bool) -> None:
    """A PostgreSQL counts as a server of the data unless its command line names another folder."""
    assert may_be_server_of(DATA, "\0".join([*words, ""]).encode()) is expected


@pytest.mark.parametrize(("content", "said"), [(None, "No such file"), ("", "invalid literal"), ("x", "invalid")])
def test_foreign_data_folder_is_refused(tmp_path: Path, content: str | None, said: str) -> None:
    """A folder that PostgreSQL did not make is named, not overwritten."""
    kept = PostgresData(folder=tmp_path, log=ServerLog(tmp_path / "log"))
    assert kept.made_by() is None
    kept.data.mkdir()
    if content is not None:
        (kept.data / "PG_VERSION").write_text(content)

    with pytest.raises(EmbeddedServiceError, match=rf"data is no data folder of PostgreSQL .*{said}.*move it away"):
        kept.made_by()


def test_made_by_is_the_major_version(tmp_path: Path) -> None:
    """PG_VERSION holds the major version."""
    kept = PostgresData(folder=tmp_path, log=ServerLog(tmp_path / "log"))
    kept.data.mkdir()
    (kept.data / "PG_VERSION").write_text("18\n")

    assert kept.made_by() == 18
    assert PostgresPrograms(folder=tmp_path, major=18).postgres == tmp_path / "postgres"


@given(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])))
def test_quoting_can_be_undone(value: str) -> None:
    """A quoted value ends at its last quote and nowhere before, and unescapes to itself."""
    text = quoted(value)
    inner = iter(text[1:-1])
    read = "".join(next(inner) if character == "\\" else character for character in inner)

    assert text[0] == text[-1] == '"'
    assert read == value


@pytest.mark.parametrize("value", ["a\nb", "a\rb"])
def test_line_break_cannot_be_quoted(value: str) -> None:
    """A line break would begin a new setting, so it is refused."""
    with pytest.raises(ValueError, match="line break"):
        quoted(value)
