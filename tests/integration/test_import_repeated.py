"""An import that is repeated, changed or under other names: no refresh token that lives here is replaced."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.command_line import Ended
from tests.support.database import create_database
from tests.support.export_file import json_lines, line_of, made_up
from tests.support.installation import Installation, installed
from worker.storage.sealing import generate_key

GRANTS = "SELECT * FROM grants ORDER BY id"


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
    return everybody.at(create_database(database_server, f"again_{uuid4().hex}", template=migrated_template))


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """Say where the export is."""
    return tmp_path / "grants.jsonl"


def bring(installation: Installation, export: Path, *options: str) -> Ended:
    """Import the export."""
    return installation.run_quickly("grants", "import", str(export), *options)


def test_an_old_export_never_replaces_a_rotated_token(installation: Installation, export: Path) -> None:
    """After a rotation the export's tokens are spent: imported again it changes not a byte, and nothing is lost."""
    grants = [installation.seed() for _ in range(3)]
    export.write_text(json_lines(line_of(grant, installation.client) for grant in grants), encoding="utf-8")
    bring(installation, export)
    ids = [str(row[0]) for row in installation.query("SELECT id FROM grants")]
    for grant_id in ids:
        assert installation.run_quickly("grants", "refresh", grant_id).code == 0
    before = installation.query(GRANTS)

    again = bring(installation, export)

    assert (again.code, again.err) == (0, "")
    assert again.out.splitlines()[1:] == ["0 adopted", "3 there already, left as they are", "0 bad"]
    assert installation.query(GRANTS) == before
    assert installation.query("SELECT count(*) FROM events WHERE type = 'grant.created'") == [(3,)]
    for grant_id in ids:
        assert installation.run_quickly("grants", "refresh", grant_id).code == 0
    assert installation.sandbox.control.report().double_spends == 0


def test_another_token_for_what_is_there_is_told_and_not_taken(installation: Installation, export: Path) -> None:
    """A later export has newer tokens only where another system still refreshes: ours stay, and that is said."""
    client = installation.client
    export.write_text(json_lines(made_up(number, client) for number in range(3)), encoding="utf-8")
    bring(installation, export)
    before = installation.query(GRANTS)
    newer = [made_up(0, client), {**made_up(1, client), "refresh_token": "rt-newer"}, made_up(2, client)]
    export.write_text(json_lines(newer), encoding="utf-8")

    again = bring(installation, export)

    assert again.code == 0
    assert again.out.splitlines()[2:4] == [
        "3 there already, left as they are",
        "1 of those with a refresh token that is new here: does another system refresh?",
    ]
    assert installation.query(GRANTS) == before


def test_the_same_tokens_under_other_names_are_refused(installation: Installation, export: Path) -> None:
    """One refresh token is never kept alive twice: not by an import, by `grants add`, nor under a new key."""
    grant = installation.seed()
    export.write_text(json_lines([line_of(grant, installation.client)]), encoding="utf-8")
    bring(installation, export)
    [(grant_id,)] = installation.query("SELECT id FROM grants")
    export.write_text(json_lines([line_of(grant, installation.client, subject="renamed")]), encoding="utf-8")
    ring = f"{generate_key('k2', bytes).reveal()},{installation.keys.reveal()}"

    refused = [
        bring(installation, export),
        installation.run_quickly("grants", "import", str(export), changes={"EVERGRANT_KEYS": ring}),
        installation.run_quickly(
            *("grants", "add", installation.client, "renamed", "--refresh-token-stdin"),
            stdin=grant.refresh_token.reveal(),
        ),
    ]

    why = f"refresh token was adopted before, as grant {grant_id}: it cannot be kept alive twice"
    assert [(ended.code, ended.err.replace("refresh_token", "refresh token")) for ended in refused] == [
        (1, f"line 1: {why}\n"),
        (1, f"line 1: {why}\n"),
        (1, f"evergrant: this {why}\n"),
    ]
    assert installation.query("SELECT count(*) FROM grants") == [(1,)]


def test_a_token_that_is_never_spent_may_be_shared(everybody: Installation, export: Path, tmp_path: Path) -> None:
    """Where the provider's facts say that refreshing takes nothing from a token, two grants may have the same one."""
    configuration = (everybody.command_line.folder / "evergrant.toml").read_text("utf-8")
    sharing = tmp_path / "sharing.toml"
    sharing.write_text(configuration.replace('rotation = "always"', 'rotation = "never"'), encoding="utf-8")
    client = everybody.client
    export.write_text(
        json_lines({**made_up(number, client), "refresh_token": "rt-shared"} for number in (901, 902)), encoding="utf-8"
    )

    ended = everybody.run_quickly("grants", "import", str(export), changes={"EVERGRANT_CONFIG": str(sharing)})

    assert (ended.code, ended.err) == (0, "")
    assert everybody.query("SELECT count(*) FROM grants WHERE subject IN ('customer-901', 'customer-902')") == [(2,)]


def test_a_dead_grant_comes_back_by_a_later_consent_only(installation: Installation, export: Path) -> None:
    """`--replace` brings the dead back by a consent after their death, once, and leaves all others alone."""
    client = installation.client
    export.write_text(json_lines(made_up(number, client) for number in range(5)), encoding="utf-8")
    bring(installation, export)
    installation.query("""
        UPDATE grants SET state_since = now() - interval '1 hour', rotate_at = NULL, strikes = 2,
               last_error = 'invalid_grant',
               state = CASE subject WHEN 'customer-3' THEN 'revoked' ELSE 'reconsent_required' END
         WHERE subject <> 'customer-4'
    """)
    [(ago,)] = installation.query("SELECT now() - interval '1 minute'")
    [(long_ago,)] = installation.query("SELECT now() - interval '2 hours'")
    fresh = {
        number: {**made_up(number, client), "refresh_token": f"rt-fresh-{number}", "consented_at": at.isoformat()}
        for number, at in enumerate((ago, long_ago, ago, ago, ago))
    }
    fresh[2] |= {"refresh_token": "rt-of-2"}
    export.write_text(json_lines(fresh.values()), encoding="utf-8")
    untouched = "SELECT * FROM grants WHERE subject <> 'customer-0' ORDER BY id"
    before = installation.query(untouched)

    without = bring(installation, export)
    replaced = bring(installation, export, "--replace")
    again = bring(installation, export, "--replace")

    dead = "is dead, and is only replaced where consented_at is after its death: an older token is spent"
    assert without.code == 0
    assert "0 adopted" in without.out
    assert [(ended.code, ended.err.startswith("line 2: grant "), dead in ended.err) for ended in (replaced, again)] == [
        (1, True, True)
    ] * 2
    assert "1 dead before, brought back" in replaced.out
    assert "brought back" not in again.out
    assert installation.query(untouched) == before
    assert installation.query(
        "SELECT state, generation, strikes, last_error, rotate_at IS NOT NULL FROM grants WHERE subject = 'customer-0'"
    ) == [("active", 1, 0, None, True)]
    assert installation.query("SELECT subject FROM events WHERE type = 'grant.revived'") == [("customer-0",)]
