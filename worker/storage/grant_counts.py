"""How many grants each client has in each state, without reading them: the sums of what has changed since ever."""

from __future__ import annotations

from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from worker.domain.grant import GrantState

#: Differences folded in one statement: some tens of milliseconds.
LIMIT: Final = 20_000
#: Statements per call: with a call a minute, far more than all grants of a provider that changes its mind bring.
ROUNDS: Final = 100

_COUNTS: Final = text("""
    SELECT client, state, CAST(sum(grants) AS bigint) AS grants FROM grant_counts
     GROUP BY client, state HAVING sum(grants) <> 0
""")
# One statement: every snapshot has either what it took or what it put in its place, and both have the same sum. What
# another fold has locked is left to that one; what writers add meanwhile it does not see, and leaves alone.
_FOLD: Final = text("""
    WITH several AS (
        SELECT client, state FROM grant_counts GROUP BY client, state HAVING count(*) > 1),
    taken AS (
        DELETE FROM grant_counts WHERE ctid = ANY (ARRAY(
            SELECT counts.ctid FROM grant_counts AS counts JOIN several USING (client, state)
             LIMIT :limit FOR UPDATE OF counts SKIP LOCKED))
        RETURNING client, state, grants),
    folded AS (
        INSERT INTO grant_counts (client, state, grants)
        SELECT client, state, sum(grants) FROM taken GROUP BY client, state HAVING sum(grants) <> 0)
    SELECT count(*) FROM taken
""")


async def count_grants(connection: AsyncConnection) -> dict[str, dict[GrantState, int]]:
    """Return how many grants each client has in each state, as of the connection's snapshot."""
    counts: dict[str, dict[GrantState, int]] = {}
    for row in await connection.execute(_COUNTS):
        counts.setdefault(row.client, {})[GrantState(row.state)] = row.grants
    return counts


async def fold_grant_counts(engine: AsyncEngine) -> int:
    """Replace differences by their sums; returns how many there were. Any number may do so at once."""
    folded = 0
    for _round in range(ROUNDS):
        async with engine.begin() as connection:
            found: int = (await connection.execute(_FOLD, {"limit": LIMIT})).scalar_one()
        folded += found
        if found < LIMIT:
            break
    return folded
