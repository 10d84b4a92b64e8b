"""What is to come: refreshes of the next day by the hour, and consents that end within a month by the day.

Reckoned now and then by whichever worker a tick reaches, so that no page has to read a million rows. The refreshes are
those of a sample of grants, each repeated at its own pace, scaled up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
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
#: Below this all of them are looked at.
ALL_BELOW: Final = 10_000
#: A client of millions of grants is read through for its ends: longer than any other statement may take.
_PATIENCE: Final = text("SET LOCAL statement_timeout = '60s'")
#: How long a forecast is good. Consents that end within a month change slowly, and all of a client's are read for it.
_GOOD_FOR: Final = {Kind.REFRESHES: timedelta(minutes=1), Kind.ENDS: timedelta(minutes=10)}

_TRY_LOCK: Final = text("SELECT pg_try_advisory_xact_lock(:key)")
_IS_GOOD: Final = text("""
    SELECT coalesce(max(made_at) > now() - CAST(:good_for AS interval), false) FROM forecasts WHERE kind = :kind
""")
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
                 WHERE state IN ({_STATES}) AND rotate_at < now() + interval '1 day') AS g
         CROSS JOIN (SELECT at, extract(epoch FROM at) AS begins FROM generate_series(
                            date_trunc('hour', now()), date_trunc('hour', now()) + interval '23 hours',
                            interval '1 hour') AS at) AS h
         CROSS JOIN LATERAL (SELECT CASE WHEN h.begins <= g.due THEN 0
                                         ELSE coalesce(ceil((h.begins - g.due) / g.pace), 1) END AS before) AS g1
         CROSS JOIN LATERAL (SELECT CASE WHEN h.begins + 3600 <= g.due THEN 0
                                         ELSE coalesce(ceil((h.begins + 3600 - g.due) / g.pace), 1) END AS until) AS g2
         GROUP BY h.at, g.client
    """)  # noqa: S608 -- the inserted parts are constants of this module


_OF_ALL: Final = _refreshes("grants")
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
     WHERE kind = :kind AND (CAST(:client AS text) IS NULL OR client = CAST(:client AS text))
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
    rotated = sum(states.get(state, 0) for states in counts.values() for state in ROTATED_STATES)
    if rotated < ALL_BELOW:
        await connection.execute(_OF_ALL, {"scale": 1})
        return
    percent = 100 * SAMPLE / sum(sum(states.values()) for states in counts.values())
    await connection.execute(_OF_SAMPLE, {"percent": percent, "scale": 100 / percent})


async def read_forecast(engine: AsyncEngine, kind: Kind, *, client: str | None) -> Forecast:
    """Return a forecast, of one client or of all."""
    async with engine.connect() as connection:
        rows = (await connection.execute(_READ, {"kind": kind.value, "client": client})).all()
    made_at = max((row.made_at for row in rows), default=None)
    return Forecast(parts=[(row.at, row.grants) for row in rows], made_at=made_at)
