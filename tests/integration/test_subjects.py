"""What is stored about one person: handed out, erased, and nothing else touched."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.installation import Installation, installed


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
