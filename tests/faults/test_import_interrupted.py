"""An import that is killed, stopped, or without its database for a while: what is in stays, run again it goes on."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

import pytest

from tests.support.database import create_database
from tests.support.export_file import json_lines, made_up
from tests.support.installation import Installation, installed
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import wait_until
from worker.usecases.import_grants import BATCH

#: Three batches and a half.
LINES = 7 * BATCH // 2
#: Seconds for what takes one or two.
LIMIT = 60.0


@pytest.fixture(scope="module")
def everybody(
    tmp_path_factory: pytest.TempPathFactory, database_server: str, migrated_template: str
) -> Iterator[Installation]:
    """Set up one installation for this file."""
    with installed(tmp_path_factory.mktemp("installation"), database_server, migrated_template) as found:
        yield found


@pytest.fixture
def installation(everybody: Installation, database_server: str, migrated_template: str) -> Installation:
    """Give the installation with a database in which nothing is yet."""
    return everybody.at(create_database(database_server, f"cut_{uuid4().hex}", template=migrated_template))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fed:
    """An import that reads from a pipe, and so has what it was given and no more."""

    process: subprocess.Popen[bytes]
    pipe: BinaryIO
    said: Path

    def give(self, content: str) -> None:
        """Write into the pipe."""
        self.pipe.write(content.encode())
        self.pipe.flush()

    def end(self) -> tuple[int, str]:
        """Wait for its end, and return its exit code and what it said on standard error."""
        code = self.process.wait(LIMIT)
        return code, self.said.read_text("utf-8")


@contextmanager
def fed(installation: Installation, folder: Path) -> Iterator[Fed]:
    """Start an import of a pipe, for as long as a `with` block."""
    pipe, said = folder / "pipe.jsonl", folder / "said"
    os.mkfifo(pipe)
    with said.open("wb") as stderr:
        process = installation.command_line.start("grants", "import", str(pipe), stderr=stderr)
    try:
        with pipe.open("wb") as writing:
            yield Fed(process=process, pipe=writing, said=said)
    finally:
        process.kill()
        process.wait(LIMIT)


def count(installation: Installation) -> int:
    """Return how many grants there are."""
    [(found,)] = installation.query("SELECT count(*) FROM grants")
    return int(found)


def written(installation: Installation) -> str:
    """Return a file of so many lines."""
    return json_lines(made_up(number, installation.client) for number in range(LINES))


def check_whole(installation: Installation, tmp_path: Path, already_there: int) -> None:
    """Import the file once more, and see that every line is a grant with one event, those that were in as they were."""
    kept = installation.query("SELECT id, refresh_token FROM grants ORDER BY id")
    path = tmp_path / "grants.jsonl"
    path.write_text(written(installation), encoding="utf-8")

    again = installation.run_quickly("grants", "import", str(path))

    assert (again.code, again.err) == (0, "")
    assert f"{LINES - already_there:,} adopted" in again.out
    assert f"{already_there:,} there already, left as they are" in again.out
    assert count(installation) == LINES
    assert installation.query("SELECT count(*), count(DISTINCT grant_id) FROM events") == [(LINES, LINES)]
    assert installation.query("SELECT count(*), count(DISTINCT grant_id) FROM adopted_tokens") == [(LINES, LINES)]
    after = set(installation.query("SELECT id, refresh_token FROM grants"))
    assert after >= set(kept)


def test_one_that_is_killed_goes_on_where_it_was(installation: Installation, tmp_path: Path) -> None:
    """SIGKILL leaves whole batches; the same file once more adds what was missing and changes nothing else."""
    with fed(installation, tmp_path) as running:
        running.give(written(installation))
        wait_until(lambda: count(installation) >= BATCH, LIMIT, "a first batch")
        running.process.kill()
        running.process.wait(LIMIT)

    already_there = count(installation)
    assert already_there % BATCH == 0
    check_whole(installation, tmp_path, already_there)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_that_is_stopped_says_how_to_go_on(
    installation: Installation, tmp_path: Path, number: signal.Signals
) -> None:
    """Ctrl-C while the pipe brings nothing more ends it at once, with what it has done and exit code 1."""
    with fed(installation, tmp_path) as running:
        running.give(written(installation))
        wait_until(lambda: count(installation) == LINES // BATCH * BATCH, LIMIT, "the full batches")
        running.process.send_signal(number)
        code, said = running.end()

    assert (code, said) == (1, "evergrant: stopped: run the same command again to go on\n")
    check_whole(installation, tmp_path, LINES // BATCH * BATCH)


def test_one_without_its_database_waits_for_it(installation: Installation, tmp_path: Path) -> None:
    """A database that is away for a moment is waited for: nothing is lost and nothing taken twice."""
    with TcpProxy(installation.database_url) as database, fed(installation.at(database.url), tmp_path) as running:
        running.give(json_lines(made_up(number, installation.client) for number in range(BATCH)))
        wait_until(lambda: count(installation) == BATCH, LIMIT, "a first batch")
        database.refuse()
        running.give(json_lines(made_up(number, installation.client) for number in range(BATCH, 2 * BATCH)))
        wait_until(lambda: database.refused > 1, LIMIT, "two attempts to reach the database")
        database.accept()
        wait_until(lambda: count(installation) == 2 * BATCH, LIMIT, "a second batch")
        # The commit is made, and its acknowledgement is lost.
        database.lose_reply_to(b"COMMIT")
        running.give(json_lines(made_up(number, installation.client) for number in range(2 * BATCH, LINES)))
        running.pipe.close()
        code, said = running.end()

    assert (code, said, database.replies_lost) == (0, "", 1)
    assert installation.query("SELECT count(*), count(DISTINCT grant_id) FROM events") == [(LINES, LINES)]
