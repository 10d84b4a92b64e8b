"""A large import in constant memory: all bad lines named, the rest in, first refreshes spread.

EVERGRANT_TEST_GRANTS=1000000 makes it the size that the project promises. With `-s` it prints its figures.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from tests.support.command_line import ROOT
from tests.support.export_file import json_lines, made_up
from tests.support.sandbox_clients import SECRET
from worker.domain.first_refresh import PACE
from worker.domain.secret import Secret

pytestmark = pytest.mark.slow

LINES: Final = int(os.environ.get("EVERGRANT_TEST_GRANTS", "20000"))
#: One line in so many is bad.
BAD_EVERY: Final = 1000
#: KiB that the whole import may take more than one of a few lines. Held in memory, each line would take 1 KiB and more.
MORE_MEMORY: Final = 16 * 1024
CLIENT: Final = "acme-main"
CONFIGURATION: Final = f"""
[providers.acme]
authorization_endpoint = "https://login.acme.example/authorize"
token_endpoint = "https://api.acme.example/oauth2/token"
rotation = "always"

[clients.{CLIENT}]
provider = "acme"
client_id = "abc"
client_secret = "env:CLIENT_SECRET"
"""
#: Runs the command line and says how much memory that took at most: of this process alone, and it ends with it.
_MEASURED: Final = """
import atexit, resource, sys
atexit.register(lambda: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr))
from worker.cli import main
main()
"""


def line(number: int) -> dict[str, Any] | str:
    """Return the line of a number; a bad one is bad in one of five ways."""
    good = made_up(
        number,
        CLIENT,
        refresh_token=f"rt-{number}-{number * 2654435761 % 2**128:064x}",
        access_token=f"at-{number}-{number * 40503 % 2**128:064x}",
        access_expires_at="2026-01-01T00:00:00Z",
        email=f"owner-{number}@example.com",
        account=str(number),
        scopes=["profile", "organization"],
    )
    if number % BAD_EVERY:
        return good
    match number // BAD_EVERY % 5:
        case 0:
            return json.dumps(good)[:-20]
        case 1:
            return {**good, "refresh_token": ""}
        case 2:
            return {**good, "client": "acme-mian"}
        case 3:
            return {**good, "subject": f"customer-{number - BAD_EVERY + 1}"}
        case _:
            return {**good, "scope": "profile"}


def bring(folder: Path, environment: dict[str, str], count: int) -> tuple[subprocess.CompletedProcess[str], int]:
    """Import a file of so many lines; return how that ended, and how much memory it took at most, in KiB."""
    path = folder / f"{count}.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for start in range(1, count + 1, 10_000):
            file.write(json_lines(line(number) for number in range(start, min(start + 10_000, count + 1))))
    ended = subprocess.run(
        [sys.executable, "-c", _MEASURED, "grants", "import", str(path), "--errors", str(folder / "bad.txt")],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=3600,
    )
    return ended, int(ended.stderr.split()[-1])


def test_many_lines_take_no_more_memory_than_few(database_url: str, keys: Secret, tmp_path: Path) -> None:
    """Every bad line is named, every other one a grant with its event, and their first refreshes take turns."""
    (tmp_path / "evergrant.toml").write_text(CONFIGURATION, encoding="utf-8")
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "EVERGRANT_DATABASE_URL": database_url,
        "EVERGRANT_KEYS": keys.reveal(),
        "EVERGRANT_CONFIG": str(tmp_path / "evergrant.toml"),
        "CLIENT_SECRET": SECRET,
    }
    _, few_memory = bring(tmp_path, environment, 2_000)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("TRUNCATE grants, events, adopted_tokens")
        ended, memory = bring(tmp_path, environment, LINES)
        [grants] = connection.execute(
            "SELECT count(*), count(DISTINCT subject), bool_and(state = 'active') FROM grants"
        )
        [events] = connection.execute(
            "SELECT count(*), count(DISTINCT grant_id) FROM events WHERE type = 'grant.created'"
        )
        [spread] = connection.execute("""
            SELECT max(n), max(rotate_at) - min(rotate_at) FROM (
                SELECT rotate_at,
                       count(*) OVER (ORDER BY rotate_at RANGE BETWEEN CURRENT ROW AND '1 minute' FOLLOWING) AS n
                  FROM grants) AS each
        """)

    [took] = re.findall(r" lines in ([\d.]+) s", ended.stdout)
    print(f"\n{ended.stdout}{LINES / float(took):,.0f} lines/s; {memory // 1024} MiB, {few_memory // 1024} MiB for few")
    bad, good = LINES // BAD_EVERY, LINES - LINES // BAD_EVERY
    assert ended.returncode == 1
    told = (tmp_path / "bad.txt").read_text("utf-8")
    named = [int(found) for found in re.findall(r"^line (\d+): ", told, re.MULTILINE)]
    assert named == list(range(BAD_EVERY, LINES + 1, BAD_EVERY))
    assert len(named) == bad
    assert grants == (good, good, True)
    assert events == (good, good)
    assert memory < few_memory + MORE_MEMORY
    most_in_a_minute, window = spread
    assert most_in_a_minute <= PACE * 60 * 1.2
    assert window.total_seconds() > good / PACE * 0.95
