"""The figures of clients: the same as counting all grants, whatever happens to these and whoever folds the counts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Thread
from typing import Final

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.domain.grant import GrantState
from worker.domain.secret import Secret
from worker.storage.client_figures import ClientFigures, read_client_figures
from worker.storage.database import create_engine
from worker.storage.grant_counts import fold_grant_counts

CLIENTS: Final = ("first", "second")
_ROTATED: Final = ("active", "in_doubt", "suspect")

# What the figures stand for, by looking at every grant. A grant of which only the refresh token is kept may have an
# access token that ran out: it is not late till it is due.
_ALL_GRANTS: Final = """
    SELECT client, state, count(*) AS grants,
           count(*) FILTER (WHERE rotate_at <= now() AND leased_until IS NULL
                              AND state IN ('active', 'in_doubt', 'suspect')) AS overdue,
           count(*) FILTER (WHERE leased_until IS NOT NULL) AS in_flight,
           count(*) FILTER (WHERE state = 'active' AND access_expires_at <= now()
                              AND (rotate_at <= now() OR leased_until IS NOT NULL OR failures > 0 OR strikes > 0))
               AS expired
      FROM grants GROUP BY client, state
"""
_INSERT: Final = """
    INSERT INTO grants (id, client, subject, state, refresh_token, access_expires_at, rotate_at)
    SELECT gen_random_uuid(), %(client)s, gen_random_uuid()::text, %(state)s, '\\x00',
           now() + CASE WHEN n %% 2 = 0 THEN interval '1 hour' ELSE interval '-1 second' END,
           CASE WHEN %(rotated)s
                THEN now() + CASE WHEN n %% 3 = 0 THEN interval '1 hour' ELSE interval '-1 second' END END
      FROM generate_series(1, %(count)s) AS n
"""
_SOME: Final = "id IN (SELECT id FROM grants WHERE client = %(client)s ORDER BY id LIMIT %(count)s)"
# Each change is one that a statement of ours, or an operator at a psql, may make.
_CHANGES: Final = {
    "change state": f"""
        UPDATE grants SET state = %(state)s, rotate_at = CASE WHEN %(rotated)s THEN coalesce(rotate_at, now()) END
         WHERE {_SOME}
    """,
    "move": f"UPDATE grants SET client = 'second' WHERE {_SOME}",
    "claim": f"UPDATE grants SET leased_until = now() + interval '1 minute', state = state WHERE {_SOME}",
    "settle": f"UPDATE grants SET leased_until = NULL, state = state, failures = 0, strikes = 0 WHERE {_SOME}",
    "put off": f"""
        UPDATE grants SET leased_until = NULL, failures = failures + 1, strikes = %(count)s,
                          rotate_at = CASE WHEN rotate_at IS NOT NULL THEN now() + interval '1 hour' END
         WHERE {_SOME}
    """,
    "delete": f"DELETE FROM grants WHERE {_SOME}",
    "truncate": "TRUNCATE grants",
    "insert": _INSERT,
    "store again": """
        INSERT INTO grants (id, client, subject, state, refresh_token, rotate_at)
        SELECT gen_random_uuid(), client, subject, state, '\\x00', rotate_at FROM grants WHERE client = %(client)s
        ON CONFLICT (client, subject) DO UPDATE SET state = %(state)s, rotate_at = now()
    """,
}


@dataclass(frozen=True, slots=True)
class Step:
    """One change of some of a client's grants, and whether it is taken back."""

    change: str
    client: str
    state: str
    count: int
    is_rolled_back: bool


STEPS: Final = st.lists(
    st.one_of(
        st.just("fold"),
        st.builds(
            Step,
            st.sampled_from([*_CHANGES, "insert", "insert"]),
            st.sampled_from(CLIENTS),
            st.sampled_from([state.value for state in GrantState]),
            st.integers(1, 5),
            st.sampled_from([False, False, False, True]),
        ),
    ),
    max_size=20,
)


@dataclass(frozen=True, slots=True)
class World:
    """A database of its own, looked at by the product and changed behind its back."""

    connection: psycopg.Connection
    engine: AsyncEngine
    runner: asyncio.Runner

    def take(self, step: Step | str) -> None:
        """Do one step."""
        if isinstance(step, str):
            self.runner.run(fold_grant_counts(self.engine))
            return
        parameters = {
            "client": step.client,
            "state": step.state,
            "count": step.count,
            "rotated": step.state in _ROTATED,
        }
        with self.connection.transaction(force_rollback=step.is_rolled_back):
            self.connection.execute(_CHANGES[step.change], parameters)

    def figures(self) -> dict[str, ClientFigures]:
        """Return what the product says."""
        return {found.client: found for found in self.runner.run(read_client_figures(self.engine, CLIENTS))}


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    """Connect to a migrated database."""
    with psycopg.connect(database_url, autocommit=True) as connection, asyncio.Runner() as runner:
        engine = create_engine(Secret(database_url), connections=2, name="test")
        yield World(connection, engine, runner)
        runner.run(engine.dispose())


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(steps=STEPS)
def test_figures_are_what_counting_all_grants_gives(world: World, steps: list[Step | str]) -> None:
    """After any inserts, changes of state, claims, deletes, truncates, rollbacks and folds they are equal."""
    world.connection.execute("TRUNCATE grants")
    for step in steps:
        world.take(step)

    figures = world.figures()

    assert world.runner.run(fold_grant_counts(world.engine)) in range(100)
    assert [(found.states, found.total) for found in world.figures().values()] == [
        (found.states, found.total) for found in figures.values()
    ], "a fold changes no sum"
    rows = world.connection.execute(_ALL_GRANTS).fetchall()
    for client, found in figures.items():
        mine = [row for row in rows if row[0] == client]
        assert found.states == {GrantState(state): grants for _client, state, grants, *_rest in mine}
        counted = (found.overdue, found.in_flight, found.expired_access_tokens)
        assert counted == tuple(sum(row[column] for row in mine) for column in (3, 4, 5))
    distinct = world.connection.execute("SELECT count(*), count(DISTINCT (client, state)) FROM grant_counts").fetchone()
    assert distinct is not None
    assert distinct[0] == distinct[1] == len(rows), "one row is left for each client and state"


def test_sums_are_exact_in_every_snapshot(world: World, database_url: str) -> None:
    """While four writers change grants and two others fold, whoever looks sees sums that fit the grants just then."""
    world.take(Step("insert", "first", "active", 400, is_rolled_back=False))
    changes = (
        """
        UPDATE grants SET state = CASE state WHEN 'active' THEN 'suspect' ELSE 'active' END
         WHERE id IN (SELECT id FROM grants ORDER BY random() LIMIT 20 FOR UPDATE SKIP LOCKED)
        """,
        "DELETE FROM grants WHERE id IN (SELECT id FROM grants ORDER BY random() LIMIT 3 FOR UPDATE SKIP LOCKED)",
        _INSERT % {"client": "'second'", "state": "'active'", "rotated": "true", "count": "4"},
    )

    def write() -> None:
        with psycopg.connect(database_url, autocommit=True) as connection:
            for number in range(60):
                connection.execute(changes[number % len(changes)].encode())

    def fold() -> None:
        async def repeatedly() -> None:
            engine = create_engine(Secret(database_url), connections=1, name="test")
            while any(writer.is_alive() for writer in writers):
                await fold_grant_counts(engine)
            await engine.dispose()

        asyncio.run(repeatedly())

    writers = [Thread(target=write) for _ in range(4)]
    threads = [*writers, *(Thread(target=fold) for _ in range(2))]
    for thread in threads:
        thread.start()
    looks = 0
    while any(thread.is_alive() for thread in threads) or not looks:
        assert differences(world.connection) == []
        looks += 1
    for thread in threads:
        thread.join()

    assert looks > 1
    assert differences(world.connection) == []


def differences(connection: psycopg.Connection) -> list[tuple[object, ...]]:
    """Return where the counts and the grants of one snapshot differ."""
    return connection.execute("""
        SELECT * FROM (SELECT client, state, count(*) AS found FROM grants GROUP BY client, state) AS found
          FULL JOIN (SELECT client, state, sum(grants) AS summed FROM grant_counts GROUP BY client, state) AS summed
         USING (client, state)
         WHERE coalesce(found, 0) <> coalesce(summed, 0)
    """).fetchall()
