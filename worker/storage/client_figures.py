"""Each client's grants in numbers: for the page, the API and the gauges. It costs the same whatever their number.

What is due, under way or was put off stands in indexes that hold nothing else; all other grants are only counted, in
`worker.storage.grant_counts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.domain.grant import GrantState
from worker.storage.grant_counts import count_grants

#: Counting a client's overdue grants stops here: it takes a tenth of a second or two, and a longer number helps nobody.
COUNTED_AT_MOST: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientFigures:
    """One client's grants in numbers, and what holds it back."""

    client: str
    states: dict[GrantState, int]
    overdue: int  #: counted up to `COUNTED_AT_MOST`
    oldest_overdue_seconds: float
    #: Active grants whose access token has run out though it was to be kept fresh: overdue ones, those under way, and
    #: those put off after a failure or a strike. Where only the grant is kept, a token may run out before the grant is
    #: due, and is not counted till then. Each of the three is counted up to `COUNTED_AT_MOST`.
    expired_access_tokens: int
    in_flight: int
    #: Grants whose consent is about to end, were noted for it and not consented to anew; counted likewise.
    consents_ending: int
    paused_by_operator: bool
    throttled_until: datetime | None
    breaker_opened_at: datetime | None
    breaker_reason: str | None
    breaker_code: str | None
    braked_at: datetime | None

    @property
    def total(self) -> int:
        """Return how many grants the client has."""
        return sum(self.states.values())


# The three are apart from each other, so that no grant is counted twice: not leased and due, leased, not leased and due
# later. The first has to read rows for their state: an index entry of a grant that is not rotated is none that is due.
_FIGURES: Final = text("""
    SELECT c.client, due.overdue, due.oldest_overdue, leased.in_flight,
           due.expired + leased.expired + put_off.expired AS expired, ending.consents AS consents_ending
      FROM unnest(CAST(:clients AS text[])) AS c (client)
     CROSS JOIN LATERAL (
           SELECT count(*) AS overdue,
                  CAST(coalesce(extract(epoch FROM now() - min(rotate_at)), 0) AS float8) AS oldest_overdue,
                  count(*) FILTER (WHERE state = 'active' AND access_expires_at <= now()) AS expired
             FROM (SELECT rotate_at, state, access_expires_at FROM grants
                    WHERE client = c.client AND leased_until IS NULL AND rotate_at <= now()
                      AND state IN ('active', 'in_doubt', 'suspect')
                    ORDER BY rotate_at LIMIT :counted) AS counted) AS due
     CROSS JOIN LATERAL (
           SELECT count(*) AS in_flight,
                  count(*) FILTER (WHERE state = 'active' AND access_expires_at <= now()) AS expired
             FROM (SELECT state, access_expires_at FROM grants
                    WHERE client = c.client AND leased_until IS NOT NULL
                    ORDER BY leased_until LIMIT :counted) AS counted) AS leased
     CROSS JOIN LATERAL (
           SELECT count(*) AS expired
             FROM (SELECT FROM grants
                    WHERE client = c.client AND state = 'active' AND (failures > 0 OR strikes > 0)
                      AND access_expires_at <= now() AND leased_until IS NULL AND rotate_at > now()
                    ORDER BY access_expires_at LIMIT :counted) AS counted) AS put_off
     CROSS JOIN LATERAL (
           SELECT count(*) AS consents
             FROM (SELECT FROM reconsent_mails AS m JOIN grants AS g ON g.id = m.grant_id
                    WHERE m.client = c.client AND m.kind = 'expiring' AND m.death > now()
                      AND g.state IN ('active', 'in_doubt', 'suspect')
                      AND coalesce(g.consented_at, g.created_at) < m.created_at
                    LIMIT :counted) AS counted) AS ending
""")
_STATUSES: Final = text("""
    SELECT client, paused_by_operator, CASE WHEN throttled_until > now() THEN throttled_until END AS throttled_until,
           breaker_opened_at, breaker_reason, breaker_code, braked_at
      FROM client_status
""")


async def read_client_figures(engine: AsyncEngine, configured: Sequence[str]) -> list[ClientFigures]:
    """Return the figures of every client that is configured or has grants."""
    async with engine.connect() as connection:
        counts = await count_grants(connection)
        names = sorted({*configured, *counts})
        looked_for = {"clients": names, "counted": COUNTED_AT_MOST}
        figures = {row.client: row for row in await connection.execute(_FIGURES, looked_for)}
        statuses = {row.client: row for row in await connection.execute(_STATUSES)}
    found = []
    for name in names:
        figure, status = figures[name], statuses.get(name)
        found.append(
            ClientFigures(
                client=name,
                states=counts.get(name, {}),
                overdue=figure.overdue,
                oldest_overdue_seconds=figure.oldest_overdue,
                expired_access_tokens=figure.expired,
                in_flight=figure.in_flight,
                consents_ending=figure.consents_ending,
                paused_by_operator=status is not None and status.paused_by_operator,
                throttled_until=status.throttled_until if status is not None else None,
                breaker_opened_at=status.breaker_opened_at if status is not None else None,
                breaker_reason=status.breaker_reason if status is not None else None,
                breaker_code=status.breaker_code if status is not None else None,
                braked_at=status.braked_at if status is not None else None,
            )
        )
    return found
