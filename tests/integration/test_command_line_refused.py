"""The command line in wrong use, and where something is wrong: one clear line, the right exit code, no secret."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from uuid import uuid4

import pytest

from tests.support.command_line import Ended
from tests.support.database import create_database
from tests.support.installation import Installation, installed, lines
from worker.embedded.startup import free_loopback_port
from worker.storage.sealing import generate_key

NOBODY = "018f3c5e-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def installation(
    tmp_path_factory: pytest.TempPathFactory, database_server: str, migrated_template: str
) -> Iterator[Installation]:
    """Give one installation to all tests of this file; none of them changes it."""
    with installed(tmp_path_factory.mktemp("installation"), database_server, migrated_template) as found:
        yield found


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """A command, what is wrong with its environment or configuration, and what the one line says."""

    command: tuple[str, ...]
    said: str
    changes: dict[str, str | None] = field(default_factory=dict)
    configuration: str | None = None


def outcomes(installation: Installation, cases: list[Wrong]) -> Iterator[tuple[Wrong, Ended]]:
    """Run every case and see that none shows a secret."""
    folder = installation.command_line.folder
    for case in cases:
        changes = case.changes
        if case.configuration is not None:
            path = folder / f"{uuid4().hex}.toml"
            path.write_text(case.configuration, encoding="utf-8")
            changes = {**changes, "EVERGRANT_CONFIG": str(path)}
        yield case, installation.run_quickly(*case.command, changes=changes)


def test_a_wrong_setting_is_one_line_and_exit_code_2(installation: Installation) -> None:
    """Whatever is missing, unknown, contradictory or malformed is named, with what to do, before anything is done."""
    configured = (installation.command_line.folder / "evergrant.toml").read_text(encoding="utf-8")
    listed = ("grants", "list")
    cases = [
        Wrong(
            command=listed,
            changes={"EVERGRANT_DATABSE_URL": "postgresql://x"},
            said="EVERGRANT_DATABSE_URL is not a setting",
        ),
        Wrong(
            command=listed,
            changes={"EVERGRANT_KEYS_FILE": "/run/keys"},
            said="EVERGRANT_KEYS and EVERGRANT_KEYS_FILE contradict each other",
        ),
        Wrong(
            command=listed,
            changes={"EVERGRANT_CONFIG": "/there/is/none.toml"},
            said="cannot read the configuration /there/is/none.toml: No such file or directory",
        ),
        Wrong(
            command=("providers", "list"),
            configuration=configured.replace('provider = "at-askara-test"', 'provider = "askarra"'),
            said="[clients.askara-test] provider 'askarra' is unknown (did you mean 'askara'?)",
        ),
        Wrong(
            command=("token", "askara-tset", "customer-42"),
            said="client 'askara-tset' is not configured (did you mean 'askara-test'?)",
        ),
        Wrong(
            command=listed,
            changes={"EVERGRANT_KEYS": None},
            said="EVERGRANT_KEYS is not set; `evergrant keys generate`",
        ),
        Wrong(command=("worker",), said="EVERGRANT_BROKER_URL is not set"),
        Wrong(command=("beat",), said="EVERGRANT_BROKER_URL is not set"),
        Wrong(
            command=listed,
            changes={"EVERGRANT_KEYS": None, "EVERGRANT_KEYS_FILE": "/there/is/none"},
            said="EVERGRANT_KEYS_FILE: cannot read /there/is/none: No such file or directory",
        ),
        Wrong(command=listed, changes={"EVERGRANT_KEYS": "k1:dG9vIHNob3J0"}, said="key 'k1' has 9 bytes instead of 32"),
        Wrong(command=listed, changes={"EVERGRANT_DATABASE_URL": None}, said="EVERGRANT_DATABASE_URL is not set"),
        Wrong(command=listed, configuration="[clients", said="is not TOML"),
        Wrong(
            command=("providers", "list"),
            configuration=configured.replace("client_secret = ", "client_secrets = "),
            said="[clients.askara-test] unknown key 'client_secrets' (did you mean 'client_secret'?)",
        ),
    ]

    for case, ended in outcomes(installation, cases):
        assert (ended.code, ended.out) == (2, ""), case
        assert ended.err.startswith("evergrant: "), ended.err
        assert case.said in ended.err
        assert ended.err.count("\n") == 1, ended.err


def at(database_url: str) -> dict[str, str | None]:
    """Return the change that makes a command use another database."""
    return {"EVERGRANT_DATABASE_URL": database_url}


def test_a_database_that_does_not_fit_is_one_line_and_exit_code_1(
    installation: Installation, database_server: str, migrated_template: str, empty_database_url: str
) -> None:
    """A database that is behind, ahead or away is refused by every command that needs it, and left as it is."""
    ahead = create_database(database_server, f"ahead_{uuid4().hex}", template=migrated_template)
    installation.at(ahead).query("UPDATE alembic_version SET version_num = '9999'")
    away = f"postgresql://somebody:something@127.0.0.1:{free_loopback_port()}/evergrant"
    cases = [
        Wrong(command=("grants", "list"), changes=at(empty_database_url), said="run `evergrant db upgrade`"),
        Wrong(command=("web",), changes=at(empty_database_url), said="run `evergrant db upgrade`"),
        Wrong(command=("grants", "show", NOBODY), changes=at(ahead), said="at 9999, which this code does not know"),
        Wrong(command=("db", "upgrade"), changes=at(ahead), said="at 9999, which this code does not know"),
        Wrong(command=("db", "check"), changes=at(away), said="the database does not answer"),
        Wrong(command=("token", NOBODY), changes=at(away), said="the database does not answer"),
    ]

    for case, ended in outcomes(installation, cases):
        assert (ended.code, ended.out) == (1, ""), case
        assert ended.err.startswith("evergrant: "), ended.err
        assert case.said in ended.err
        assert ended.err.count("\n") == 1, ended.err
        assert "something" not in ended.err
    assert installation.at(ahead).query("SELECT version_num FROM alembic_version") == [("9999",)]
    public = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
    assert installation.at(empty_database_url).query(public) == [(0,)]


def test_a_wrong_key_names_the_key_and_changes_nothing(installation: Installation) -> None:
    """With a ring that lacks the key, or has another one under its id, a token nothing begins."""
    installation.run_quickly("clients", "list")  # whatever begins notes its key
    grant_id = installation.adopt(installation.seed())
    stored = f"SELECT * FROM grants WHERE id = '{grant_id}'"
    before = installation.query(stored)
    another, same_id = generate_key("k2", bytes), generate_key("k1", bytes)
    cases = [
        Wrong(
            command=("token", grant_id),
            changes={"EVERGRANT_KEYS": another.reveal()},
            said="EVERGRANT_KEYS lacks the key 'k1', which this database needs and seals grants.refresh_token",
        ),
        Wrong(
            command=("grants", "refresh", grant_id),
            changes={"EVERGRANT_KEYS": same_id.reveal()},
            said="the key 'k1' is another one than this database was sealed under",
        ),
    ]

    for case, ended in outcomes(installation, cases):
        assert (ended.code, ended.out) == (2, ""), case
        assert case.said in ended.err
        assert ended.err.count("\n") == 1, ended.err
    assert installation.query(stored) == before


def test_wrong_use_explains_itself_and_exits_with_2(installation: Installation) -> None:
    """A token as an argument, a missing flag, and what is not an id, state or duration are refused as usage."""
    grant = installation.seed()
    add = ("grants", "add", installation.client, grant.account)

    misused = {
        (*add, "--refresh-token", "not-a-real-token"): "No such option: --refresh-token",
        add: "never as an argument",
        ("token", NOBODY, "--min-ttl", "soon"): "'soon' is not a duration",
        ("token", "not-an-id"): "'not-an-id' is not a grant's id",
        ("grants", "show", "not-an-id"): "should be a valid UUID",
        ("grants", "list", "--state", "sleeping"): "'sleeping'",
    }

    for command, said in misused.items():
        ended = installation.run_quickly(*command)
        assert (ended.code, ended.out) == (2, ""), command
        assert said in " ".join(ended.err.split()), ended.err
        assert "Usage: " in ended.err
    assert installation.query(f"SELECT * FROM grants WHERE subject = '{grant.account}'") == []


def test_no_token_on_standard_input_adopts_nothing(installation: Installation) -> None:
    """Without a line to read, or without the second one, `grants add` fails and says which token is missing."""
    grant = installation.seed()
    add = ("grants", "add", installation.client, grant.account, "--refresh-token-stdin")

    empty = installation.run_quickly(*add, stdin="\n")
    half = installation.run_quickly(*add, "--access-token-stdin", stdin=lines(grant).partition("\n")[0])

    assert (empty.code, empty.out, empty.err) == (1, "", "evergrant: no refresh token on standard input\n")
    assert (half.code, half.out, half.err) == (1, "", "evergrant: no access token on standard input\n")
    assert installation.query(f"SELECT * FROM grants WHERE subject = '{grant.account}'") == []


def test_a_real_process_ends_with_these_codes(installation: Installation) -> None:
    """Started by an interpreter of its own, the program ends in the same way: 2 for wrong use, 1 for a failure."""
    wrong, failed = installation.run_all(("token", "askara-tset", "customer-42"), ("grants", "show", NOBODY))

    assert (wrong.code, wrong.out, wrong.err.count("\n")) == (2, "", 1)
    assert (failed.code, failed.out, failed.err) == (1, "", f"evergrant: there is no grant {NOBODY}\n")
