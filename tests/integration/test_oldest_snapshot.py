"""The gauge that tells of a snapshot which keeps dead rows from being removed, before claims get slow by it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psycopg
import pytest

from tests.conftest import WebMaker
from tests.support.scraping import sample
from worker.domain.secret import Secret
from worker.storage.database import create_engine
from worker.storage.oldest_snapshot import read_oldest_snapshot

pytestmark = pytest.mark.anyio

TRANSACTIONS = 500


def begin_many(database_url: str) -> None:
    """Let so many transactions come and go that each has a number of its own."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"""
            DO $$ BEGIN FOR n IN 1..{TRANSACTIONS} LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$
        """)


@contextmanager
def held(database_url: str, *statements: str) -> Iterator[None]:
    """Hold a transaction open meanwhile."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())
        yield
        connection.execute("ROLLBACK")


async def oldest(database_url: str) -> int:
    """Return what the product reads."""
    engine = create_engine(Secret(database_url), connections=1, name="test")
    try:
        return await read_oldest_snapshot(engine)
    finally:
        await engine.dispose()


def test_a_scrape_tells_of_a_long_open_transaction(make_web: WebMaker, database_url: str) -> None:
    """A REPEATABLE READ transaction that stays open shows in the gauge by the transactions begun since."""
    with (
        make_web("") as web,
        held(database_url, "BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT count(*) FROM grants"),
    ):
        begin_many(database_url)

        scrape = httpx.get(f"{web.url}/metrics", trust_env=False).text

    found = sample(scrape, "evergrant_oldest_snapshot_transactions")
    assert found is not None
    assert TRANSACTIONS <= found < 100 * TRANSACTIONS


@pytest.mark.parametrize(
    ("statements", "is_seen"),
    [
        (("BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT 1"), True),
        (("BEGIN", "INSERT INTO client_status (client) VALUES ('x')"), True),
        (("BEGIN", "SELECT 1"), False),
    ],
    ids=["a snapshot", "a writer that idles", "a reader that idles between its snapshots"],
)
async def test_what_holds_back_the_removal_of_dead_rows_is_seen(
    database_url: str, statements: tuple[str, ...], is_seen: bool
) -> None:
    """A held snapshot and an unfinished write count, an idle transaction without either does not, and both pass."""
    with held(database_url, *statements):
        begin_many(database_url)
        during = await oldest(database_url)
    after = await oldest(database_url)

    assert (during >= TRANSACTIONS) is is_seen
    assert after < TRANSACTIONS


async def test_another_databases_snapshot_does_no_harm(database_url: str, empty_database_url: str) -> None:
    """What is open in another database of the server keeps no row of ours."""
    with held(empty_database_url, "BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT 1"):
        begin_many(database_url)

        assert await oldest(database_url) < TRANSACTIONS
