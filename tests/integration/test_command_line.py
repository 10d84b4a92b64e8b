"""The command line in proper use: every command as a process of its own, most once more in a fork of a loaded one."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
import typer

from tests.support.database import create_database
from tests.support.installation import Installation, installed, lines
from worker.commands.every import every
from worker.domain.secret import Secret
from worker.storage.sealing import ACCESS_TOKEN, KeyRing, parse_keys

NOBODY = "018f3c5e-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def installation(
    tmp_path_factory: pytest.TempPathFactory, database_server: str, migrated_template: str
) -> Iterator[Installation]:
    """Give one installation to all tests of this file; each works on grants of its own."""
    with installed(tmp_path_factory.mktemp("installation"), database_server, migrated_template) as found:
        yield found


def every_command() -> list[list[str]]:
    """Return the words of every command and group, as typed."""
    found: list[list[str]] = []
    groups: list[tuple[list[str], Any]] = [([], typer.main.get_command(every))]
    while groups:
        words, group = groups.pop()
        found.append(words)
        for name, command in group.commands.items():
            below = [*words, name]
            if hasattr(command, "commands"):
                groups.append((below, command))
            else:
                found.append(below)
    return found


def test_every_command_explains_itself_with_an_example(installation: Installation) -> None:
    """`--help` of each command says what it does and shows it in use; of each group, what its commands are."""
    commands = every_command()
    assert len(commands) > 15

    for words in commands:
        helped = installation.run_quickly(*words, "--help")
        assert (helped.code, helped.err) == (0, ""), words
        is_group = any(other[:-1] == words for other in commands if other)
        typed = " ".join(["evergrant", *words])
        shown = helped.out if is_group else helped.out.partition("Example:")[2]
        assert ("Commands:" if is_group else typed) in shown, typed
    real = installation.run("grants", "add", "--help")
    assert (real.code, real.err) == (0, "")
    assert "customer-42 --refresh-token-stdin < token.txt" in " ".join(real.out.split())


def test_a_grant_is_adopted_from_standard_input_once(installation: Installation) -> None:
    """`grants add` prints the id and nothing else; a second time it names that id, fails and changes nothing."""
    grant = installation.seed()
    arguments = ("grants", "add", installation.client, grant.account, "--refresh-token-stdin", "--email", "a@b.example")

    added = installation.run(*arguments, stdin=lines(grant))
    grant_id = UUID(added.out.strip())
    stored = f"SELECT * FROM grants WHERE id = '{grant_id}'"
    before = installation.query(stored)
    again = installation.run_quickly(*arguments, stdin="another token\n")

    assert (added.code, added.err, added.out) == (0, "", f"{grant_id}\n")
    assert (again.code, again.out) == (1, "")
    assert again.err == (
        f"evergrant: {installation.client} has a grant for {grant.account!r} already: {grant_id}; nothing was changed\n"
    )
    assert installation.query(stored) == before
    assert installation.query(f"SELECT email, state FROM grants WHERE id = '{grant_id}'") == [("a@b.example", "active")]


def test_grants_are_listed_and_shown(installation: Installation) -> None:
    """`list` and `show` give tables to people and JSON to programs, both without tokens, and `list` filters."""
    first, second = installation.seed(), installation.seed()
    first_id, second_id = installation.adopt(first), installation.adopt(second)
    installation.query(f"UPDATE grants SET state = 'paused', rotate_at = NULL WHERE id = '{second_id}'")

    listed, paused, shown = installation.run_all(
        ("grants", "list", "--client", installation.client),
        ("grants", "list", "--state", "paused", "--json"),
        ("grants", "show", first_id, "--json"),
    )

    for ended in (listed, paused, shown):
        assert (ended.code, ended.err) == (0, "")
    heads, *table = listed.out.splitlines()
    assert heads.split()[:4] == ["ID", "CLIENT", "SUBJECT", "STATE"]
    [line] = [line for line in table if line.startswith(first_id)]
    assert line.split()[:4] == [first_id, installation.client, first.account, "active"]
    found = {grant["id"]: grant for grant in json.loads(paused.out)}
    assert {grant["state"] for grant in found.values()} == {"paused"}
    assert found[second_id]["subject"] == second.account
    one = json.loads(shown.out)
    assert (one["id"], one["subject"], one["state"], one["generation"]) == (first_id, first.account, "active", 0)
    assert not {"access_token", "refresh_token"} & set(one)


def test_token_prints_exactly_the_token(installation: Installation) -> None:
    """By id or by client and subject, `token` prints the stored token and a line end; past --min-ttl a fresh one."""
    grant = installation.seed()
    grant_id = installation.adopt(grant)

    by_id = installation.run("token", grant_id)
    by_subject = installation.run_quickly("token", installation.client, grant.account, "--min-ttl", "1h")
    refreshed = installation.run_quickly("token", grant_id, "--min-ttl", "25h")

    stored = f"{grant.access_token.reveal()}\n"
    assert (by_id.code, by_id.out, by_id.err) == (0, stored, "")
    assert (by_subject.code, by_subject.out) == (0, stored)
    assert (refreshed.code, refreshed.out != stored, refreshed.out.count("\n")) == (0, True, 1)
    assert installation.sandbox.control.account_of(Secret(refreshed.out.strip())) == grant.account


def test_refresh_refreshes_now(installation: Installation) -> None:
    """`grants refresh` says the new generation and when the new token ends, and not the token."""
    grant_id = installation.adopt(installation.seed())

    ended = installation.run("grants", "refresh", grant_id)

    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("refreshed: generation 1, access token ends 2")
    assert installation.query(f"SELECT generation FROM grants WHERE id = '{grant_id}'") == [(1,)]


def test_what_cannot_be_refreshed_is_said_in_one_line(installation: Installation) -> None:
    """A grant that the provider has ended, one that is paused and one that is not there fail with the reason."""
    ended_grant, paused_grant = installation.seed(), installation.seed()
    ended_id, paused_id = installation.adopt(ended_grant), installation.adopt(paused_grant)
    installation.sandbox.control.revoke_consent(installation.client, ended_grant.account)
    installation.query(f"UPDATE grants SET state = 'paused', rotate_at = NULL WHERE id = '{paused_id}'")

    ended = [
        installation.run_quickly("grants", "refresh", ended_id),
        installation.run_quickly("token", paused_id),
        installation.run_quickly("token", NOBODY),
        installation.run_quickly("token", installation.client, "nobody"),
        installation.run_quickly("grants", "show", NOBODY),
    ]

    assert [(found.code, found.out) for found in ended] == [(1, "")] * 5
    assert [found.err for found in ended] == [
        f"evergrant: grant {ended_id} was not refreshed: dead, see `evergrant grants show`\n",
        f"evergrant: grant {paused_id} is paused: see `evergrant grants show`\n",
        f"evergrant: there is no grant {NOBODY}\n",
        f"evergrant: there is no grant {installation.client} nobody\n",
        f"evergrant: there is no grant {NOBODY}\n",
    ]


def test_the_catalogue_says_what_is_known_and_what_is_not(installation: Installation) -> None:
    """`providers show askara` has the guide's facts and "unknown" for what the guide does not say; JSON has null."""
    listed, shown = installation.run_all(("providers", "list", "--json"), ("providers", "show", "askara"))

    assert [(found.code, found.err) for found in (listed, shown)] == [(0, "")] * 2
    by_name = {found["name"]: found for found in json.loads(listed.out)}
    assert set(by_name) >= {"askara", f"at-{installation.client}"}
    facts = {cells[0]: cells[-1] for cells in (re.split(r"\s{2,}", line) for line in shown.out.splitlines())}
    assert facts["authorization_endpoint"] == "https://app.askara.loc/authorize"
    assert facts["token_endpoint"] == "https://api.askara.ai/oauth2/token"
    assert facts["scope_separator"] == '" "'
    assert (facts["token_request_encoding"], facts["client_auth"]) == ("json", "client_secret_post")
    assert (facts["rotation"], facts["old_token"], facts["access_lifetime"]) == ("always", "invalidated", "24h")
    not_documented = {"revocation_endpoint", "pkce", "refresh_lifetime", "refresh_idle_timeout"}
    assert {name for name, fact in facts.items() if fact == "unknown"} >= not_documented
    assert {name for name, fact in by_name["askara"].items() if fact is None} >= not_documented


def test_a_generated_key_works(installation: Installation, database_server: str, migrated_template: str) -> None:
    """What `keys generate` prints seals and opens, put first into EVERGRANT_KEYS as it stands."""
    made = installation.run("keys", "generate", "--id", "2026-11")
    assert made.out.startswith("2026-11:")

    # Put before the ring that there was: the first seals.
    ring = f"{made.out.strip()},{installation.keys.reveal()}"
    database_url = create_database(database_server, "generated_key", template=migrated_template)
    other = installation.at(database_url, Secret(ring))
    grant = other.seed()
    grant_id = other.adopt(grant)

    assert other.run_quickly("token", grant_id).out == f"{grant.access_token.reveal()}\n"
    [(sealed,)] = other.query("SELECT access_token FROM grants")
    assert b"2026-11" in bytes(sealed)[:10]
    opened = KeyRing(parse_keys(Secret(made.out.strip())), os.urandom).open(sealed, ACCESS_TOKEN, UUID(grant_id))
    assert opened == grant.access_token


def test_the_schema_is_checked(installation: Installation) -> None:
    """`db check` works with nothing set but the database, and says the version (`db upgrade` is in test_schema)."""
    bare = replace(installation.command_line, environment={"EVERGRANT_DATABASE_URL": installation.database_url})

    checked = bare.run("db", "check")

    [(version,)] = installation.query("SELECT version_num FROM alembic_version")
    assert (checked.code, checked.err) == (0, "")
    assert checked.out == f"the schema is at {version}, as this version needs it\n"
