"""The bench's comparison of what is stored with what the endpoint issued."""

from __future__ import annotations

import os
from array import array
from datetime import UTC, datetime

import psycopg

from tests.bench import population
from tests.bench.contenders import baseline_table
from tests.bench.contenders.baseline_table import BaselineTable
from worker.domain.secret import Secret
from worker.storage.sealing import KeyRing, parse_keys

DUE = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_grant_whose_newest_token_is_not_stored_is_lost(database_url: str, keys: Secret) -> None:
    """A generation that the endpoint issued and the database lacks is lost, or in doubt where the row says so."""
    ring = KeyRing(parse_keys(keys), os.urandom)
    with psycopg.connect(database_url, autocommit=True) as connection:
        population.seed(connection, ring, ((number, DUE) for number in range(4)))
        connection.execute("UPDATE grants SET state = 'in_doubt' WHERE id = %s", [population.grant_id(3)])
        intact = population.lost_tokens(connection, ring, array("I", [0, 0, 0, 0]))
        behind = population.lost_tokens(connection, ring, array("I", [0, 1, 0, 1]))
    assert (intact.lost, intact.in_doubt) == (0, 0)
    assert (behind.lost, behind.in_doubt) == (1, 1)


def test_everybody_elses_lost_tokens_are_counted_too(empty_database_url: str, keys: Secret) -> None:
    """In clear or sealed, the stored token is compared with the endpoint's newest."""
    ring = KeyRing(parse_keys(keys), os.urandom)
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        baseline_table.create(connection)
        for table in BaselineTable:
            baseline_table.fill(connection, table, 3, ring)
            assert baseline_table.lost_tokens(connection, table, array("I", [0, 0, 0]), ring) == 0
            assert baseline_table.lost_tokens(connection, table, array("I", [2, 0, 1]), ring) == 2
