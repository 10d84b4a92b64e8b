"""Each migration on a database with rows: nothing is lost, and the former version goes on working while it runs.

What the former version does is known by its tables: every column that it reads stays with its type, every column that
is new can be left out of what it writes, and no table is copied, for copying locks everybody out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import uuid4

import psycopg
import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from alembic import command
from tests.integration.test_schema import alembic, schema_of
from tests.support.database import create_database
from tests.support.waiting import wait_until
from worker.domain.errors import MigrationStoppedError
from worker.packaged import migrations_path

#: Tables that grow with the grants and what is done with them: a lock on one of these is felt by everybody.
BIG: Final = {"grants", "rotations", "events", "reconsent_mails", "webhook_deliveries", "adopted_tokens", "audit_log"}
#: Revisions from before the first release, whose statements lock a big table for as long as its size asks for.
UNRELEASED: Final = {"0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010", "0011"}
#: Statements that hold a big table locked for as long as it is big, and what is to be done instead.
_LOCKING: Final = (
    (r"CREATE (UNIQUE )?INDEX (?!CONCURRENTLY)\S+ ON {big}\b", "CREATE INDEX CONCURRENTLY, in an autocommit block"),
    (r"DROP INDEX (?!CONCURRENTLY)", "DROP INDEX CONCURRENTLY, in an autocommit block"),
    (r"ALTER TABLE {big} ALTER COLUMN \S+ (SET DATA )?TYPE", "a new column beside it, filled in batches"),
    (r"ALTER TABLE {big} ALTER COLUMN \S+ SET NOT NULL", "a CHECK that is NOT VALID, validated later"),
    (r"ALTER TABLE {big} ADD CONSTRAINT (?!.*NOT VALID)", "NOT VALID, and VALIDATE CONSTRAINT by itself"),
    (r"ALTER TABLE {big} (DROP|RENAME)", "leaving it for one release, and then a revision of its own"),
    (r"^UPDATE {big}\b|^DELETE FROM {big}\b", "batches outside of the migration"),
    (r"\bLOCK TABLE\b|VACUUM FULL|\bCLUSTER\b", "no such statement"),
)


def revisions() -> list[str]:
    """Return all revisions, the oldest first."""
    script = ScriptDirectory(str(migrations_path()))
    return [one.revision for one in reversed(list(script.walk_revisions()))]


@dataclass(frozen=True, slots=True)
class _Column:
    kind: str
    may_be_left_out: bool


def _columns(url: str) -> dict[tuple[str, str], _Column]:
    query = """
        SELECT table_name, column_name, data_type,
               is_nullable = 'YES' OR column_default IS NOT NULL OR is_identity = 'YES'
          FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'
    """
    with psycopg.connect(url) as connection:
        return {(row[0], row[1]): _Column(row[2], row[3]) for row in connection.execute(query)}


def _files(url: str) -> dict[str, int]:
    with psycopg.connect(url) as connection:
        query = (
            "SELECT relname, relfilenode FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        )
        return dict(connection.execute(query).fetchall())


def _write_as_the_first_version(url: str) -> str:
    """Do what the first version did with its tables: a grant adopted, claimed, settled, with its events."""
    grant = str(uuid4())
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO grants (id, client, subject, state, refresh_token, rotate_at) "
            "VALUES (%s, 'acme', %s, 'active', '\\x0102', now())",
            [grant, grant],
        )
        connection.execute("INSERT INTO client_status (client) VALUES ('acme') ON CONFLICT DO NOTHING")
        claimed = connection.execute(
            "UPDATE grants SET lease_id = gen_random_uuid(), leased_until = now() + interval '1 minute', "
            "spend_started_at = now() WHERE id = %s AND leased_until IS NULL",
            [grant],
        )
        settled = connection.execute(
            "UPDATE grants SET refresh_token = '\\x0103', access_token = '\\x01', generation = generation + 1, "
            "leased_until = NULL, lease_id = NULL, spend_started_at = NULL, rotate_at = now() + interval '1 hour' "
            "WHERE id = %s AND generation = 0",
            [grant],
        )
        assert (claimed.rowcount, settled.rowcount) == (1, 1)
        connection.execute(
            "INSERT INTO rotations (grant_id, client, subject, generation) VALUES (%s, 'acme', %s, 1)", [grant, grant]
        )
        connection.execute(
            "INSERT INTO events (type, client, grant_id, subject) VALUES ('grant.created', 'acme', %s, %s)",
            [grant, grant],
        )
        connection.execute(
            "INSERT INTO authorization_requests (state_hash, id, client, subject, browser_hash, expires_at) "
            "VALUES (%s::bytea, %s, 'acme', %s, '\\x01', now())",
            [grant.encode(), grant, grant],
        )
    return grant


@contextmanager
def _said(url: str) -> Iterator[tuple[Any, list[str]]]:
    """Give Alembic's configuration, and every statement that goes over its connection."""
    statements: list[str] = []
    with alembic(url) as config:
        connection = config.attributes["connection"]

        def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            statements.append(" ".join(statement.split()))

        event.listen(connection, "before_cursor_execute", note)
        yield config, statements


def test_each_migration_keeps_the_rows_and_the_former_version_working(database_server: str) -> None:
    """From the first revision to the last, rows at each: no column goes or changes, none must be given."""
    url = create_database(database_server, f"walk_{uuid4().hex}")
    written: list[str] = []
    before: dict[tuple[str, str], _Column] = {}
    files: dict[str, int] = {}
    for revision in revisions():
        with _said(url) as (config, statements):
            command.upgrade(config, revision)
        now, now_files = _columns(url), _files(url)
        new_tables = {table for table, _ in now} - {table for table, _ in before}
        for name, column in before.items():
            assert now.get(name) is not None, f"{revision} drops {name}, which the former version reads"
            assert now[name].kind == column.kind, f"{revision} changes {name}"
            assert now[name].may_be_left_out or not column.may_be_left_out, f"{revision} asks for {name}"
        for place, column in now.items():
            known = place in before or place[0] in new_tables
            assert known or column.may_be_left_out, f"{revision}: the former version does not write {place}"
        assert all(now_files[table] == number for table, number in files.items()), f"{revision} copies a table"
        if revision not in UNRELEASED:
            _check_locks(revision, statements, new_tables)
        written.append(_write_as_the_first_version(url))
        before, files = now, now_files

    assert revisions()[-1] == schema_of(url).check()
    with psycopg.connect(url) as connection:
        for table in ("grants", "rotations", "events", "authorization_requests"):
            whose = "id" if table in {"grants", "authorization_requests"} else "grant_id"
            kept = {str(row[0]) for row in connection.execute(f"SELECT {whose} FROM {table}")}
            assert kept == set(written), table
        tokens = connection.execute("SELECT DISTINCT refresh_token, access_token, generation FROM grants").fetchall()
        assert tokens == [(b"\x01\x03", b"\x01", 1)]
        assert connection.execute("SELECT sum(grants) FROM grant_counts").fetchone() == (len(written),)


def _check_locks(revision: str, statements: list[str], new_tables: set[str]) -> None:
    big = f"(ONLY )?({'|'.join(sorted(BIG - new_tables))})"
    for statement in statements:
        for pattern, instead in _LOCKING:
            found = re.search(pattern.format(big=big), statement, re.IGNORECASE)
            assert found is None, f"{revision}: {statement}: say {instead}"


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE INDEX ix_new ON grants (email)",
        "DROP INDEX ix_grants_dead",
        "ALTER TABLE grants ALTER COLUMN email SET NOT NULL",
        "ALTER TABLE events ALTER COLUMN id TYPE text",
        "ALTER TABLE rotations ADD CONSTRAINT c CHECK (true)",
        "ALTER TABLE grants DROP COLUMN email",
        "UPDATE grants SET email = NULL",
        "LOCK TABLE client_status",
    ],
)
def test_a_statement_that_locks_a_big_table_is_found(statement: str) -> None:
    """The rules find what they are for."""
    with pytest.raises(AssertionError, match="say "):
        _check_locks("9999", [statement], set())


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE INDEX CONCURRENTLY ix_new ON grants (email)",
        "ALTER TABLE grants ADD COLUMN nickname text",
        "ALTER TABLE grants ADD CONSTRAINT c CHECK (true) NOT VALID",
        "CREATE INDEX ix_small ON client_status (client)",
    ],
)
def test_a_statement_that_locks_nobody_out_is_taken(statement: str) -> None:
    """And they leave alone what does no harm."""
    _check_locks("9999", [statement], set())


def test_a_migration_that_cannot_have_its_lock_gives_up_and_may_be_run_again(database_server: str) -> None:
    """Behind a long reader it waits five seconds, says so, has changed nothing, and works once the reader has gone."""
    url = create_database(database_server, f"held_{uuid4().hex}")
    with alembic(url) as config:
        command.upgrade(config, "0006")
    _write_as_the_first_version(url)
    before = _columns(url)
    with psycopg.connect(url) as reader:
        reader.execute("SELECT count(*) FROM grants")
        reader.execute("LOCK TABLE rotations IN ACCESS SHARE MODE")
        with pytest.raises(MigrationStoppedError, match=r"waited 5 s for a lock .* run `evergrant db upgrade` again"):
            schema_of(url).upgrade()
        assert _columns(url) == before
    schema_of(url).upgrade()


def test_a_statement_that_takes_too_long_names_the_limit(database_server: str) -> None:
    """With many millions of rows a count may take more than a minute: it is undone, and `--limit` gives it more."""
    url = create_database(database_server, f"slow_{uuid4().hex}")
    with alembic(url) as config:
        command.upgrade(config, "0006")
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO grants (id, client, subject, state, refresh_token, rotate_at) "
            "SELECT gen_random_uuid(), 'acme', n::text, 'active', '\\x01', now() FROM generate_series(1, 20000) AS n"
        )

    with pytest.raises(MigrationStoppedError, match="evergrant db upgrade --limit 10m"):
        schema_of(url).upgrade(timedelta(milliseconds=1))
    schema_of(url).upgrade(timedelta(minutes=10))

    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT sum(grants) FROM grant_counts").fetchone() == (20_000,)


def test_an_upgrade_that_is_killed_while_it_makes_an_index_is_taken_up_again(database_server: str) -> None:
    """What waits for a writer beside it and is ended there leaves an index that is none; the next upgrade is whole."""
    url = create_database(database_server, f"killed_{uuid4().hex}")
    with alembic(url) as config:
        command.upgrade(config, "0011")
    _write_as_the_first_version(url)
    found = """
        SELECT pid FROM pg_stat_activity
         WHERE datname = current_database() AND query ~ '^CREATE INDEX CONCURRENTLY'
    """
    with (
        psycopg.connect(url) as writer,
        psycopg.connect(url, autocommit=True) as onlooker,
        ThreadPoolExecutor(1) as pool,
    ):
        writer.execute("UPDATE grants SET email = 'ada@example.com'")
        upgrading = pool.submit(schema_of(url).upgrade)
        wait_until(lambda: onlooker.execute(found).fetchone(), 60, "it waits for the writer")
        onlooker.execute(f"SELECT pg_terminate_backend(pid) FROM ({found}) AS found")
        with pytest.raises(SQLAlchemyError):
            upgrading.result()

    schema_of(url).upgrade()

    assert schema_of(url).check() == revisions()[-1]
    with alembic(url) as config:
        command.check(config)
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM pg_index WHERE NOT indisvalid").fetchone() == (0,)


def test_the_limit_that_was_asked_for_holds_after_an_index_was_made(database_server: str) -> None:
    """What `--limit` gave is there for whatever comes after the indexes, whose making nothing limits."""
    url = create_database(database_server, f"limit_{uuid4().hex}")
    with _said(url) as (config, _statements):
        config.attributes["statement_timeout"] = "600000ms"
        command.upgrade(config, "0012")
        limits = config.attributes["connection"].exec_driver_sql("SHOW statement_timeout").scalar_one()
    assert limits == "10min"
