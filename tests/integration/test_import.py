"""`grants import`: the grants in a file are adopted, and every line that cannot be is named with its number."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.support.command_line import Ended
from tests.support.database import create_database
from tests.support.export_file import comma_separated, json_lines, line_of, made_up
from tests.support.installation import Installation, installed


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
    return everybody.at(create_database(database_server, f"import_{uuid4().hex}", template=migrated_template))


def bring(installation: Installation, tmp_path: Path, content: str, *options: str, name: str = "grants.jsonl") -> Ended:
    """Import a file with this content."""
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    return installation.run_quickly("grants", "import", str(path), *options)


def count(installation: Installation) -> int:
    """Return how many grants there are."""
    [(found,)] = installation.query("SELECT count(*) FROM grants")
    return int(found)


@pytest.mark.parametrize("write", [json_lines, comma_separated], ids=["JSON Lines", "CSV"])
def test_imported_grants_are_alive(installation: Installation, tmp_path: Path, write: Any) -> None:
    """Each line becomes a grant with all that it says, with its event; its token is handed out, and refreshed."""
    first, second = installation.seed(), installation.seed()
    lines = [
        line_of(
            first,
            installation.client,
            email="ada@example.com",
            account="17",
            scopes="profile offline",
            consented_at="2026-01-02T03:04:05Z",
            refresh_expires_at="2199-01-01T00:00:00Z",
        ),
        line_of(second, installation.client, access_token=None, expires_in=None),
    ]

    ended = bring(installation, tmp_path, write(lines), name="grants")

    assert (ended.code, ended.err) == (0, "")
    assert "2 adopted, first refreshed from 2" in ended.out
    assert installation.query(
        "SELECT email, account, scopes, consented_at::text, state FROM grants WHERE email > ''"
    ) == [("ada@example.com", "17", ["profile", "offline"], "2026-01-02 03:04:05+00", "active")]
    assert installation.query(
        "SELECT e.type, e.subject FROM events AS e JOIN grants AS g ON g.id = e.grant_id ORDER BY g.email"
    ) == [("grant.created", first.account), ("grant.created", second.account)]
    token = installation.run_quickly("token", installation.client, first.account)
    assert token.out.strip() == first.access_token.reveal()
    for grant in (first, second):
        [(grant_id,)] = installation.query(f"SELECT id FROM grants WHERE subject = '{grant.account}'")
        assert installation.run_quickly("grants", "refresh", str(grant_id)).code == 0
    assert installation.sandbox.control.report().double_spends == 0


def test_every_bad_line_is_named_and_the_others_are_in(installation: Installation, tmp_path: Path) -> None:
    """The first bad lines are on standard error, all of them in the file, and none repeats a value; exit code 1."""
    client, lines = installation.client, list[Any]()
    faults = {
        "is not JSON: Expecting value at character 1": "rt-secret",
        "refresh_token is missing": {"client": client, "subject": "s"},
        "client is not configured (did you mean 'askara-test'?)": made_up(0, "askara-tset"),
        "'refresh_tokne' is no field (did you mean 'refresh_token'?)": {**made_up(0, client), "refresh_tokne": "rt-x"},
        "email is not an e-mail address": made_up(0, client, email="rt-secret"),
        "refresh_expires_at is past: its owner has to authorize again": made_up(
            0, client, refresh_expires_at="2020-01-01T00:00:00Z"
        ),
        "consented_at is in the future": made_up(0, client, consented_at="2199-01-01T00:00:00Z"),
        "expires_in says what access_expires_at says: give one of them": made_up(
            0, client, access_token="a", expires_in=60, expires_at="2199-01-01T00:00:00Z"
        ),
        "refresh_token begins or ends with white space, which no token does": {
            **made_up(0, client),
            "refresh_token": "r ",
        },
        f"captured has a name that provider 'at-{client}' keeps nothing under": made_up(0, client, captured={"a": "b"}),
    }
    for number in range(1, 31):
        lines += [made_up(number, client), list(faults.values())[number % len(faults)]]
    expected = [f"line {2 * number}: {list(faults)[number % len(faults)]}" for number in range(1, 31)]
    errors = tmp_path / "bad-lines.txt"

    ended = bring(installation, tmp_path, json_lines(lines), "--errors", str(errors))

    assert ended.code == 1
    assert count(installation) == 30
    assert errors.read_text("utf-8").splitlines() == expected
    assert ended.err.splitlines() == [*expected[:20], f"… and 10 more bad lines: all of them are in {errors}"]
    assert ended.out.splitlines()[-1] == "30 bad"
    assert "rt-" not in ended.err


def test_a_line_that_comes_twice_is_named_with_both_numbers(installation: Installation, tmp_path: Path) -> None:
    """However far apart, the first of two lines is taken; so it is with one refresh token for two grants."""
    client = installation.client
    lines = [made_up(number, client) for number in range(1, 2101)]
    lines[1] = made_up(2, client, email="ada@example.com")
    lines[2049] = made_up(2, client, email="bob@example.com")
    lines[2079] = {**made_up(2080, client), "refresh_token": "rt-of-80"}

    ended = bring(installation, tmp_path, json_lines(lines))

    assert ended.code == 1
    assert ended.err.splitlines() == [
        "line 2050: client and subject are those of line 2",
        "line 2080: refresh_token is that of line 80, which names another grant: it cannot be kept alive twice",
    ]
    assert count(installation) == 2098
    assert installation.query("SELECT email FROM grants WHERE subject = 'customer-2'") == [("ada@example.com",)]


def test_a_dry_run_says_the_same_and_writes_nothing(installation: Installation, tmp_path: Path) -> None:
    """`--dry-run` names the same bad lines and counts what is there already, and leaves every table as it was."""
    client = installation.client
    bring(installation, tmp_path, json_lines([made_up(1, client)]))
    tables = (
        "SELECT (SELECT count(*) FROM grants), (SELECT count(*) FROM events), (SELECT count(*) FROM adopted_tokens)"
    )
    before = installation.query(tables)
    renamed = {**made_up(3, client), "refresh_token": "rt-of-1"}
    content = json_lines([made_up(1, client), made_up(2, client), renamed, "nonsense"])

    dry = bring(installation, tmp_path, content, "--dry-run")
    after = installation.query(tables)
    real = bring(installation, tmp_path, content)

    assert dry.out.splitlines()[0].endswith(": nothing was written")
    assert dry.out.splitlines()[1].startswith("1 would be adopted, first refreshed from 2")
    assert (dry.code, dry.err) == (real.code, real.err)
    assert [line.partition(":")[0] for line in dry.err.splitlines()] == ["line 3", "line 4"]
    assert before == after == [(1, 1, 1)]
    assert count(installation) == 2


def test_what_came_of_it_is_told_to_programs(installation: Installation) -> None:
    """`--json` writes the figures; `--client` fills in for lines that name none; `-` reads standard input."""
    lines: list[Any] = [{"subject": "one", "refresh_token": "rt-of-one"}, made_up(2, "nobody-knows"), "nonsense"]

    ended = installation.run(
        "grants", "import", "-", "--client", installation.client, "--json", stdin=json_lines(lines)
    )

    assert ended.code == 1
    found = json.loads(ended.out)
    assert (found["lines"], found["created"], found["already_there"], found["bad"]) == (3, 1, 0, 2)
    assert (found["whole"], found["dry_run"]) == (True, False)
    assert found["first_refresh"] == found["last_refresh"]


def test_first_refreshes_take_turns_at_half_of_the_rate(installation: Installation, tmp_path: Path) -> None:
    """Without an end that is known, the last grant waits for its turn; with --spread they share that time."""
    client, many = installation.client, 500

    bring(installation, tmp_path, json_lines(made_up(number, client) for number in range(many)))
    # No rate is configured: fifty in a second.
    assert installation.query(
        "SELECT extract(epoch FROM max(rotate_at) - min(rotate_at)) BETWEEN 9.9 AND 10.1 FROM grants"
    ) == [(True,)]
    bring(
        installation,
        tmp_path,
        json_lines(made_up(number, client) for number in range(many, 2 * many)),
        "--spread",
        "6h",
    )

    [(shortest, longest, latest)] = installation.query("""
        SELECT min(n), max(n), max(latest) FROM (
            SELECT count(*) AS n, max(rotate_at - created_at) AS latest FROM grants
             WHERE rotate_at > created_at + interval '20 seconds'
             GROUP BY floor(extract(epoch FROM rotate_at - created_at) / 3600)) AS hours
    """)
    assert shortest > many / 6 / 2
    assert longest < many / 6 * 2
    assert latest.total_seconds() < 6 * 3600


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["nowhere.jsonl"], "nowhere.jsonl: No such file or directory"),
        (["empty.jsonl"], "empty.jsonl: it is empty"),
        (["array.json"], "it is a JSON array"),
        (["good.jsonl", "--format", "xml"], "'xml' is not one of"),
        (["good.jsonl", "--spread", "6"], "'6' is not a duration"),
        (
            ["good.jsonl", "--client", "askara-tset"],
            "client 'askara-tset' is not configured (did you mean 'askara-test'?)",
        ),
        (["good.jsonl", "--errors", "good.jsonl"], "--errors must be another file than the one that is read"),
        (["good.jsonl", "--errors", "link.jsonl"], "--errors must be another file than the one that is read"),
        (["empty.jsonl", "--errors", "array.json"], "array.json holds something else than bad lines"),
    ],
)
def test_wrong_use_is_refused(installation: Installation, tmp_path: Path, options: list[str], said: str) -> None:
    """What cannot be meant is said in one message, exit code 2, before anything is read or written over."""
    contents = {"good.jsonl": json_lines([made_up(1, installation.client)]), "empty.jsonl": "", "array.json": "[{}]"}
    for name, content in contents.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "good.jsonl")
    paths = [str(tmp_path / option) if "." in option else option for option in options]

    ended = installation.run_quickly("grants", "import", *paths)

    assert (ended.code, ended.out) == (2, "")
    assert said in " ".join(ended.err.split())
    assert {name: (tmp_path / name).read_text("utf-8") for name in contents} == contents
    assert count(installation) == 0
