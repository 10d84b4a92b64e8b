"""What is stored about one person: handed out, erased, and nothing else touched."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.installation import Installation, installed
from worker.embedded.startup import free_loopback_port


@pytest.fixture(scope="module")
def installation(
    tmp_path_factory: pytest.TempPathFactory, database_server: str, migrated_template: str
) -> Iterator[Installation]:
    """Set up one client, a database and a key ring."""
    with installed(tmp_path_factory.mktemp("subjects"), database_server, migrated_template) as ready:
        yield ready


#: Every table that can name a subject or hold what belongs to a grant, and by which column.
_MENTIONS = {
    "grants": "subject",
    "rotations": "subject",
    "events": "subject",
    "reconsent_mails": "subject",
    "authorization_requests": "subject",
}


def _mentions(installation: Installation, subject: str) -> dict[str, int]:
    counted = (
        f"SELECT '{table}', count(*) FROM {table} WHERE {column} = '{subject}'" for table, column in _MENTIONS.items()
    )
    return {table: count for table, count in installation.query(" UNION ALL ".join(counted)) if count}


def test_a_subject_is_exported_and_erased_and_the_others_stay(installation: Installation) -> None:
    """The export has everything but tokens; after erasing nothing names the subject, and its neighbour is whole."""
    ours, neighbour = installation.seed(), installation.seed()
    grant = installation.adopt(ours)
    installation.adopt(neighbour)
    subject = ours.account
    assert installation.run_quickly("grants", "refresh", grant).code == 0
    installation.query(
        f"""INSERT INTO authorization_requests (state_hash, id, client, subject, email, browser_hash, expires_at)
            VALUES ('\\x01', gen_random_uuid(), '{installation.client}', '{subject}', 'ada@example.com', '\\x02',
                    now())"""
    )
    before = _mentions(installation, neighbour.account)
    [(adopted,)] = installation.query(f"SELECT count(*) FROM adopted_tokens WHERE grant_id = '{grant}'")

    exported = json.loads(installation.run_quickly("subjects", "export", subject).out)
    asked = installation.run_quickly("subjects", "erase", subject)
    assert _mentions(installation, subject)["grants"] == 1, "it only asked"
    erased = installation.run_quickly("subjects", "erase", subject, "--yes")
    again = installation.run_quickly("subjects", "erase", subject, "--yes")

    assert [one["id"] for one in exported["grants"]] == [grant]
    assert "access_token" not in exported["grants"][0]
    assert [one["type"] for one in exported["events"]] == ["grant.created"]
    assert len(exported["rotations"]) == 1
    assert exported["authorization_requests"][0]["email"] == "ada@example.com"
    assert "nothing is erased yet: say --yes" in asked.out
    assert (erased.code, f"grant {grant} of {installation.client} is erased" in erased.out) == (0, True), erased
    assert (again.code, again.out) == (0, f"nothing is stored about {subject}\n")
    assert _mentions(installation, subject) == {}
    assert _mentions(installation, neighbour.account) == before
    [(left, neighbours)] = installation.query(
        f"SELECT count(*) FILTER (WHERE grant_id = '{grant}'), count(*) FROM adopted_tokens"
    )
    assert (adopted, left, neighbours) == (1, 0, 1)


def test_an_erasure_that_is_cut_off_is_finished_by_the_next(installation: Installation) -> None:
    """Wherever the first stops, its row and what names the subject leave together, so that the second finds all."""
    ours = installation.seed()
    grant = installation.adopt(ours)
    assert installation.run_quickly("grants", "refresh", grant).code == 0
    installation.query(
        f"""INSERT INTO reconsent_mails (id, grant_id, client, subject, death, kind, recipient, state)
            VALUES (gen_random_uuid(), '{grant}', '{installation.client}', '{ours.account}', now(), 'death',
                    'ada@example.com', 'sent')"""
    )
    for table in ("events", "reconsent_mails"):
        installation.query(
            "CREATE OR REPLACE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'cut off'; END $$"
        )
        installation.query(f"CREATE TRIGGER stop BEFORE DELETE ON {table} EXECUTE FUNCTION stop()")
        assert installation.run_quickly("subjects", "erase", ours.account, "--yes").code != 0
        installation.query(f"DROP TRIGGER stop ON {table}")

    assert installation.run_quickly("subjects", "erase", ours.account, "--yes").code == 0
    assert _mentions(installation, ours.account) == {}


def test_what_its_provider_does_not_confirm_stays_unless_forced(installation: Installation) -> None:
    """Its refresh token is needed to ask again, so the grant is not erased; `--force` erases it all the same."""
    ours = installation.seed()
    grant = installation.adopt(ours)
    away = {"EVERGRANT_CONFIG": str(_with_a_provider_that_is_away(installation))}

    kept = installation.run_quickly("subjects", "erase", ours.account, "--yes", changes=away)
    assert (kept.code, "has not confirmed the end of it: repeat later" in kept.err) == (1, True), kept
    [(state, has_token)] = installation.query(
        f"SELECT state, refresh_token IS NOT NULL FROM grants WHERE id = '{grant}'"
    )
    assert (state, has_token) == ("revoked", True)
    forced = installation.run_quickly("subjects", "erase", ours.account, "--yes", "--force", changes=away)
    assert (forced.code, f"grant {grant} of {installation.client} is erased" in forced.out) == (0, True), forced
    assert _mentions(installation, ours.account) == {}


def _with_a_provider_that_is_away(installation: Installation) -> Path:
    """Write the installation's configuration with a revocation endpoint where nobody listens."""
    written = Path(installation.command_line.environment["EVERGRANT_CONFIG"])
    away = f'revocation_endpoint = "http://127.0.0.1:{free_loopback_port()}/revoke"\ntoken_endpoint ='
    kept = re.sub(r"(?m)^revocation_endpoint = .*\n", "", written.read_text())
    changed = written.with_name("away.toml")
    changed.write_text(re.sub(r"(?m)^token_endpoint =", away, kept, count=1))
    return changed
