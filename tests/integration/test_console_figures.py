"""What charts are drawn of: refreshes counted by the hour by several processes, and what is to come."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest

from tests.conftest import ContainerMaker
from tests.support.database import value
from worker.storage import overview
from worker.storage.forecasts import Kind, looked_at_one_by_one, read_forecast, reckon
from worker.storage.refresh_hours import fold_hours, read_hours, write_counts
from worker.usecases.tally import Tally

pytestmark = pytest.mark.anyio


def hour_ago(hours: int) -> datetime:
    """Return a full hour so long ago."""
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=hours)  # noqa: TID251 -- a test's


async def test_counts_of_two_processes_add_up_whatever_is_repeated(
    database_url: str, make_container: ContainerMaker
) -> None:
    """Each process writes over its own count, twice or more; a fold keeps the sum and may be repeated too."""
    old, new = hour_ago(5), hour_ago(0)
    async with make_container("") as container:
        engine, first, second = container.engine, uuid4(), uuid4()
        for reporter, rotated in ((first, 10), (second, 7), (first, 12), (first, 12)):
            await write_counts(engine, reporter, {(old, "acme", "rotated"): rotated, (new, "acme", "dead"): 1})
        for _time in range(2):
            found = await read_hours(engine, since=old, width=timedelta(hours=1), client="acme")
            assert [(part.at, part.rotated, part.failed) for part in found] == [(old, 19, 0), (new, 0, 2)]
            await fold_hours(engine)
    with psycopg.connect(database_url) as connection:
        [(rows,)] = connection.execute("SELECT count(*) FROM refresh_hours").fetchall()
    assert rows == 3  # the old hour in one, the hour under way in one for each process


async def test_a_tally_keeps_what_was_counted_meanwhile(make_container: ContainerMaker) -> None:
    """What is counted goes out with the next write; a write without news writes nothing."""
    clock = hour_ago(0)
    async with make_container("") as container:
        tally = Tally(engine=container.engine, reporter=uuid4(), clock=lambda: clock)
        for _refresh in range(3):
            tally.count("acme", "rotated")
        await tally.write()
        tally.count("acme", "timeout")
        await tally.write()
        await tally.write()
        [found] = await read_hours(container.engine, since=clock, width=timedelta(hours=1), client=None)
    assert (found.rotated, found.failed) == (3, 1)


async def test_load_repeats_each_grant_at_its_own_pace(database_url: str, make_container: ContainerMaker) -> None:
    """A grant of an hour's pace is load in each hour, one of a month's once; paused ones are none. Once is enough."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("""
            INSERT INTO grants (id, client, subject, state, refresh_token, issued_at, rotate_at, refresh_expires_at)
            VALUES (gen_random_uuid(), 'acme', 'hourly', 'active', '\\x00', now() - interval '30 min',
                    now() + interval '30 min', now() + interval '3 days'),
                   (gen_random_uuid(), 'acme', 'monthly', 'active', '\\x00', now() - interval '29 days',
                    now() + interval '5 hours', now() + interval '40 days'),
                   (gen_random_uuid(), 'acme', 'paused', 'paused', '\\x00', now(), NULL, now() + interval '2 days')
        """)
    async with make_container("") as container:
        await reckon(container.engine, ["acme"])
        load = await read_forecast(container.engine, Kind.REFRESHES, client="acme")
        ends = await read_forecast(container.engine, Kind.ENDS, client=None)
        assert sum(count for _at, count in load.parts) in {24, 25}
        assert {count for _at, count in load.parts} <= {0, 1, 2}
        assert [count for _at, count in ends.parts] == [1]
        await reckon(container.engine, ["acme"])
        assert (await read_forecast(container.engine, Kind.REFRESHES, client=None)).made_at == load.made_at


def test_the_smallest_clients_are_looked_at_one_by_one() -> None:
    """As many as have few grants together, whatever their number: a thousand small ones are not."""
    assert looked_at_one_by_one({"large": 1_000_000, "small": 3, "middle": 9_000}) == {"small", "middle"}
    assert len(looked_at_one_by_one({f"client-{n}": 500 for n in range(1_000)})) == 20
    assert looked_at_one_by_one({}) == frozenset()


async def test_a_small_client_is_not_lost_beside_a_large_one(database_url: str, make_container: ContainerMaker) -> None:
    """Of many grants there is a sample of pages, which holds perhaps none of three: those are read one by one."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("""
            INSERT INTO grants (id, client, subject, state, refresh_token, issued_at, rotate_at)
            SELECT gen_random_uuid(), client, n::text, 'active', '\\x00', now() - interval '9 days',
                   now() + interval '90 min'
              FROM (VALUES ('large', 20000), ('small', 3)) AS c (client, grants), generate_series(1, grants) AS n
        """)
    async with make_container("") as container:
        await reckon(container.engine, [])
        small = await read_forecast(container.engine, Kind.REFRESHES, client="small")
        large = await read_forecast(container.engine, Kind.REFRESHES, client="large")
    assert sum(count for _at, count in small.parts) == 3
    assert 10_000 < sum(count for _at, count in large.parts) < 40_000


async def test_what_finds_nothing_is_not_looked_for_again_at_once(make_container: ContainerMaker) -> None:
    """Where no consent ends within a month, the next look is as far away as with one that does."""
    made = "SELECT made_at FROM forecasts WHERE kind = 'ends'"
    async with make_container("") as container:
        await reckon(container.engine, ["acme"])
        first = await value(container, made)
        await reckon(container.engine, ["acme"])
        assert first is not None
        assert await value(container, made) == first
        assert (await read_forecast(container.engine, Kind.ENDS, client=None)).parts == []


async def test_an_hour_that_is_long_over_is_not_written_any_more(make_container: ContainerMaker) -> None:
    """Whoever was cut off with a count and has counted nothing since goes by the clock: it may have been folded."""
    begin, passed = hour_ago(4), [timedelta()]
    async with make_container("") as container:
        tally = Tally(engine=container.engine, reporter=uuid4(), clock=lambda: begin + passed[0])
        tally.count("acme", "rotated")
        passed[0] = timedelta(hours=3)
        await tally.write()
        assert await read_hours(container.engine, since=begin, width=timedelta(hours=1), client=None) == []


async def test_one_clients_rotations_are_looked_for_among_the_newest(
    database_url: str, make_container: ContainerMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that asks every two seconds does not read all rotations for a client that has none lately."""
    monkeypatch.setattr(overview, "LOOKED_THROUGH", 10)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("""
            INSERT INTO rotations (grant_id, client, subject, generation)
            SELECT gen_random_uuid(), CASE WHEN n = 1 THEN 'seldom' ELSE 'often' END, 'ada', n
              FROM generate_series(1, 30) AS n ORDER BY n
        """)
    async with make_container("") as container:
        found = {
            only: len((await overview.read_overview(container.engine, [], only=only)).rotations)
            for only in ("seldom", "often", None)
        }
    assert found == {"seldom": 0, "often": 10, None: overview.RECENT}
