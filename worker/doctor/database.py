"""The database: whether it can be trusted with a token, and whether it stays quick."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.doctor.finding import Finding, error, ok, warning
from worker.storage.oldest_snapshot import read_oldest_snapshot
from worker.storage.presence import count_workers

#: PostgreSQL's `server_version_num` from which on all that is used here is there.
OLDEST_VERSION: Final = 140_000
#: Seconds by which two clocks may differ: tokens are refreshed at three quarters of their life, minutes ahead.
CLOCK_SECONDS: Final = 5.0
#: Updates after which the share of those that touched no index says something.
ENOUGH_UPDATES: Final = 10_000
#: A client's status row is updated at each claim, and has no index but its key: nearly all of that is HOT.
LEAST_HOT: Final = 0.5
#: Dead rows for each live one beyond which a table is not vacuumed as it should be.
MOST_DEAD: Final = 0.5
#: Transactions: the README's alarm.
OLDEST_SNAPSHOT: Final = 1_000_000
#: Seconds: a worker that works is never so late.
OVERDUE_SECONDS: Final = 60.0
#: Connections that should be left for one more process and for a person with psql.
SPARE_CONNECTIONS: Final = 20

_SERVER: Final = text("""
    SELECT current_setting('server_version_num')::int AS version, current_setting('server_version') AS named,
           current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,
           current_setting('synchronous_commit') AS synchronous_commit, current_setting('autovacuum') AS autovacuum,
           current_setting('track_counts') AS track_counts, current_setting('max_connections')::int AS max_connections,
           (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections,
           pg_is_in_recovery() AS recovering, clock_timestamp() AS now
""")
_TABLES: Final = text("""
    SELECT relname AS name, n_live_tup AS live, n_dead_tup AS dead, n_tup_upd AS updates, n_tup_hot_upd AS hot
      FROM pg_stat_user_tables WHERE relname IN ('grants', 'client_status', 'rotations', 'events')
""")
_OVERDUE: Final = text("""
    SELECT extract(epoch FROM now() - min(rotate_at)) FROM grants
     WHERE leased_until IS NULL AND rotate_at IS NOT NULL
""")


async def check_server(engine: AsyncEngine, now: Callable[[], datetime]) -> list[Finding]:
    """Look at the server and its settings; `now` is this machine's clock."""
    async with engine.connect() as connection:
        row = (await connection.execute(_SERVER)).one()
        here = now()
    return [*_trust(row), *_upkeep(row), _clock((row.now - here).total_seconds())]


async def check_tables(engine: AsyncEngine) -> list[Finding]:
    """Look at what the tables' statistics tell, and at who keeps dead rows alive."""
    async with engine.connect() as connection:
        rows = (await connection.execute(_TABLES)).all()
    snapshot = await read_oldest_snapshot(engine)
    return [*(finding for row in rows for finding in table_findings(row)), _snapshot(snapshot)]


async def check_workers(engine: AsyncEngine, *, session_lock: bool) -> list[Finding]:
    """Look whether anybody works; without session locks workers cannot be counted."""
    async with engine.connect() as connection:
        overdue = float((await connection.execute(_OVERDUE)).scalar_one() or 0.0)
    findings = []
    if session_lock:
        workers = await count_workers(engine)
        findings.append(
            ok("workers", f"{workers} at work")
            if workers
            else warning("workers", "no worker is running", "start `evergrant worker`")
        )
    findings.append(
        warning(
            "overdue grants",
            f"the oldest has been due for {overdue:,.0f} s",
            "see that a worker and a beat run, and what `evergrant clients list` says holds them back",
        )
        if overdue > OVERDUE_SECONDS
        else ok("overdue grants", "none is late")
    )
    return findings


def describe(failed: DBAPIError) -> str:
    """Return why a statement failed, without its values."""
    return str(failed.orig).splitlines()[0] if failed.orig is not None else type(failed).__name__


def _trust(row: Row[Any]) -> Iterator[Finding]:
    if row.version < OLDEST_VERSION:
        yield error("PostgreSQL", f"its version is {row.named}", "upgrade it to 14 or newer")
    elif row.recovering:
        yield error("PostgreSQL", "it is a standby and takes no writes", "let EVERGRANT_DATABASE_URL name the primary")
    else:
        yield ok("PostgreSQL", f"version {row.named}")
    durable = {
        "fsync": "set fsync = on: after a crash of the machine the whole database may be lost",
        "full_page_writes": "set full_page_writes = on: a crash may tear pages",
        "synchronous_commit": "ALTER ROLE … SET synchronous_commit = on: a crash may lose tokens that were stored",
    }
    off = {name: remedy for name, remedy in durable.items() if getattr(row, name) == "off"}
    for name, remedy in off.items():
        yield error("durability", f"{name} is off", remedy)
    if not off:
        yield ok("durability", "what is committed is on the disk")


def _upkeep(row: Row[Any]) -> Iterator[Finding]:
    for name in ("autovacuum", "track_counts"):
        if getattr(row, name) == "off":
            yield error("autovacuum", f"{name} is off: claims get slower by the hour", f"set {name} = on")
    if row.autovacuum == "on" and row.track_counts == "on":
        yield ok("autovacuum", "on")
    left = row.max_connections - row.connections
    figures = f"{row.connections} of {row.max_connections} are in use"
    if left < SPARE_CONNECTIONS:
        yield warning("connections", figures, "raise max_connections or put a pooler before it (deploy/scaling.md)")
    else:
        yield ok("connections", figures)


def _clock(ahead: float) -> Finding:
    if abs(ahead) > CLOCK_SECONDS:
        word = "ahead of" if ahead > 0 else "behind"
        return error("clock", f"the database is {abs(ahead):.1f} s {word} this machine", "let NTP set both clocks")
    return ok("clock", f"the database's and this machine's differ by {abs(ahead):.1f} s")


def _snapshot(age: int) -> Finding:
    if age > OLDEST_SNAPSHOT:
        return warning(
            "oldest snapshot",
            f"{age:,} transactions have begun since: no vacuum removes what has died meanwhile",
            "end the session, prepared transaction or replication slot that holds it (pg_stat_activity.backend_xmin)",
        )
    return ok("oldest snapshot", f"{age:,} transactions old")


def table_findings(row: Any) -> Iterator[Finding]:  # noqa: ANN401 -- a row with these five figures
    """Judge one table by its statistics: `name`, `live`, `dead`, `updates`, `hot`."""
    check = f"table {row.name}"
    if row.live + row.dead > ENOUGH_UPDATES and row.dead > MOST_DEAD * row.live:
        yield warning(
            check,
            f"{row.dead:,} dead rows beside {row.live:,} live ones",
            f"VACUUM {row.name}; then see why autovacuum does not come: an old snapshot, or too few workers",
        )
        return
    share = row.hot / row.updates if row.updates else 1.0
    if row.name == "client_status" and row.updates > ENOUGH_UPDATES and share < LEAST_HOT:
        yield warning(
            check,
            f"{share:.0%} of its updates were HOT",
            "an old snapshot fills its pages, or an index was added to it: drop that",
        )
        return
    hot = f", {share:.0%} of {row.updates:,} updates HOT" if row.updates else ""
    yield ok(check, f"{row.live:,} rows, {row.dead:,} dead{hot}")
