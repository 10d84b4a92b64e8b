"""What is to come: refreshes of the next day by the hour, and consents that end within a month by the day.

Reckoned now and then by whichever worker a tick reaches, so that no page has to read a million rows. The refreshes are
those of small clients' grants and of a sample of the others', each repeated at its own pace; the sample's scaled up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import accumulate
from typing import Final

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from worker.domain.grant import ROTATED_STATES
from worker.storage.grant_counts import count_grants


class Kind(StrEnum):
    """What is forecast."""

    REFRESHES = "refreshes"  #: of an hour
    ENDS = "ends"  #: consents that end on a day, and that no refresh prolongs


#: Whoever reckons holds this advisory lock until the commit; nobody waits for it. Spells "EVGF".
_LOCK_KEY: Final = 0x45564746
#: Grants in a sample: the hours come out to some percent, in a tenth of a second.
SAMPLE: Final = 5_000
#: So many grants are looked at one by one: the smallest clients' first, which a sample of pages may miss altogether.
ONE_BY_ONE: Final = 10_000
#: Names the row that says when a forecast was made, even where nothing is to come.
_MADE: Final = ""
#: A client of millions of grants is read through for its ends: longer than any other statement may take.
_PATIENCE: Final = text("SET LOCAL statement_timeout = '60s'")
#: How long a forecast is good. Consents that end within a month change slowly, and all of a client's are read for it.
_GOOD_FOR: Final = {Kind.REFRESHES: timedelta(minutes=1), Kind.ENDS: timedelta(minutes=10)}

_TRY_LOCK: Final = text("SELECT pg_try_advisory_xact_lock(:key)")
_IS_GOOD: Final = text("""
    SELECT coalesce(max(made_at) > now() - CAST(:good_for AS interval), false) FROM forecasts WHERE kind = :kind
""")
_MARK: Final = text("INSERT INTO forecasts (kind, at, client, grants) VALUES (:kind, now(), :made, 0)")
_CLEAR: Final = text("DELETE FROM forecasts WHERE kind = :kind")
_STATES: Final = ", ".join(f"'{state}'" for state in ROTATED_STATES)


# `before(t)`: how many refreshes of a grant come before an instant, where it is due at `due` and every `pace` after.
def _refreshes(source: str) -> TextClause:
    return text(f"""
        INSERT INTO forecasts (kind, at, client, grants)
        SELECT 'refreshes', h.at, g.client, round(sum(g2.until - g1.before) * :scale)
          FROM (SELECT client, extract(epoch FROM greatest(rotate_at, now())) AS due,
                       CASE WHEN rotate_at > issued_at THEN extract(epoch FROM rotate_at - issued_at) END AS pace
                  FROM {source}
                 WHERE state IN ({_STATES}) AND rotate_at < now() + interval '1 day'
                   AND client = ANY(CAST(:clients AS text[]))) AS g
         CROSS JOIN (SELECT at, extract(epoch FROM at) AS begins FROM generate_series(
                            date_trunc('hour', now()), date_trunc('hour', now()) + interval '23 hours',
                            interval '1 hour') AS at) AS h
         CROSS JOIN LATERAL (SELECT CASE WHEN h.begins <= g.due THEN 0
                                         ELSE coalesce(ceil((h.begins - g.due) / g.pace), 1) END AS before) AS g1
         CROSS JOIN LATERAL (SELECT CASE WHEN h.begins + 3600 <= g.due THEN 0
                                         ELSE coalesce(ceil((h.begins + 3600 - g.due) / g.pace), 1) END AS until) AS g2
         GROUP BY h.at, g.client
    """)  # noqa: S608 -- the inserted parts are constants of this module


_ONE_BY_ONE: Final = _refreshes("grants")
_OF_SAMPLE: Final = _refreshes("grants TABLESAMPLE SYSTEM (:percent)")
_ENDS: Final = text(f"""
    INSERT INTO forecasts (kind, at, client, grants)
    SELECT 'ends', date_trunc('day', refresh_expires_at), client, count(*)
      FROM grants
     WHERE state IN ({_STATES}) AND client = ANY(CAST(:clients AS text[]))
       AND refresh_expires_at BETWEEN now() AND now() + interval '30 days'
     GROUP BY 2, 3
""")  # noqa: S608 -- the inserted part is a constant of this module
_READ: Final = text("""
    SELECT at, CAST(sum(grants) AS bigint) AS grants, max(made_at) AS made_at FROM forecasts
     WHERE kind = :kind AND client <> :made AND (CAST(:client AS text) IS NULL OR client = CAST(:client AS text))
     GROUP BY at ORDER BY at
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """How much is to come, and when that was reckoned."""

    parts: Sequence[tuple[datetime, int]]  #: the beginning of each hour or day, and how many
    made_at: datetime | None  #: None: nothing is to come, or nobody has reckoned yet


async def reckon(engine: AsyncEngine, ending: Sequence[str]) -> None:
    """Make the forecasts anew that are not good any more. Any number may do so at once: one does.

    Args:
        engine: the process's connections.
        ending: clients whose consents have an end that no refresh moves.

    """
    for kind in Kind:
        async with engine.begin() as connection:
            if not (await connection.execute(_TRY_LOCK, {"key": _LOCK_KEY})).scalar_one():
                return
            looked_for = {"kind": kind.value, "good_for": _GOOD_FOR[kind]}
            if (await connection.execute(_IS_GOOD, looked_for)).scalar_one():
                continue
            await connection.execute(_CLEAR, {"kind": kind.value})
            await connection.execute(_MARK, {"kind": kind.value, "made": _MADE})
            match kind:
                case Kind.REFRESHES:
                    await _reckon_refreshes(connection)
                case Kind.ENDS if ending:
                    await connection.execute(_PATIENCE)
                    await connection.execute(_ENDS, {"clients": list(ending)})
                case Kind.ENDS:
                    pass


async def _reckon_refreshes(connection: AsyncConnection) -> None:
    counts = await count_grants(connection)
    # What is not refreshed is read too, and a client that has nothing else is left out.
    grants = {
        client: sum(states.values())
        for client, states in counts.items()
        if not states.keys().isdisjoint(ROTATED_STATES)
    }
    small = looked_at_one_by_one(grants)
    if small:
        await connection.execute(_ONE_BY_ONE, {"clients": list(small), "scale": 1})
    large = [client for client in grants if client not in small]
    if large:
        percent = min(100.0, 100 * SAMPLE / sum(grants[client] for client in large))
        await connection.execute(_OF_SAMPLE, {"clients": large, "percent": percent, "scale": 100 / percent})


def looked_at_one_by_one(grants: Mapping[str, int]) -> frozenset[str]:
    """Return the smallest clients, as many as have `ONE_BY_ONE` grants together. Of the others there is a sample.

    Args:
        grants: how many grants each client has.

    """
    by_size = sorted(grants, key=lambda client: grants[client])
    sums = accumulate(grants[client] for client in by_size)
    return frozenset(client for client, together in zip(by_size, sums, strict=True) if together <= ONE_BY_ONE)


async def read_forecast(engine: AsyncEngine, kind: Kind, *, client: str | None) -> Forecast:
    """Return a forecast, of one client or of all."""
    async with engine.connect() as connection:
        rows = (await connection.execute(_READ, {"kind": kind.value, "client": client, "made": _MADE})).all()
    made_at = max((row.made_at for row in rows), default=None)
    return Forecast(parts=[(row.at, row.grants) for row in rows], made_at=made_at)
