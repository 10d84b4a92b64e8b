"""Deliveries of webhooks: claimed for a short while, finished by one guarded statement each.

Of one lane, which is a grant, only the first delivery can be claimed, and while it is under way no other: so a grant's
events arrive in their order, and those of other grants do not wait for it. A claim ends by its time, so what a killed
worker had under way is sent again: at least once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.storage.event_log import LoggedEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right of one worker to send one event to one endpoint, and what decides what becomes of it."""

    endpoint: str
    event: LoggedEvent
    claim_id: UUID
    failures: int  #: how often this event has failed here
    endpoint_failures: int  #: how often the endpoint has failed in a row
    now: datetime  #: the database's clock at the claim


# A lane is looked at in the statement's snapshot, and what that may miss is safe: a delivery leaves its lane only when
# it is finished, and the row that is claimed is looked at again under its lock.
# The first of a lane is looked up for each row, along an index that nothing else here can be read by: as a join, with
# statistics from before the rows came, it would compare every row with every other.
_FIRST_AND_DUE: Final = """
    d.dead_at IS NULL AND d.next_attempt_at <= now() AND (d.claimed_until IS NULL OR d.claimed_until < now())
    AND d.event_id = (SELECT min(o.event_id) FROM webhook_deliveries AS o WHERE o.lane = d.lane AND o.dead_at IS NULL)
"""
_DUE: Final = text(f"""
    SELECT w.name FROM webhook_endpoints AS w
     WHERE w.name = ANY(CAST(:names AS text[])) AND w.paused_at IS NULL
       AND (w.held_until IS NULL OR w.held_until <= now())
       AND EXISTS (SELECT FROM webhook_deliveries AS d WHERE d.endpoint = w.name AND {_FIRST_AND_DUE})
     ORDER BY w.name
""")  # noqa: S608 -- the inserted text is a constant of this module
_CLAIM: Final = text(f"""
    WITH open AS (
        SELECT failures,
               greatest(least(:free, CASE WHEN held_until IS NULL THEN :most ELSE 1 END - (
                   SELECT count(*) FROM webhook_deliveries
                    WHERE endpoint = :endpoint AND claimed_until > now())), 0) AS places
          FROM webhook_endpoints
         WHERE name = :endpoint AND paused_at IS NULL AND (held_until IS NULL OR held_until <= now())),
    first AS (
        SELECT d.event_id FROM webhook_deliveries AS d
         WHERE d.endpoint = :endpoint AND {_FIRST_AND_DUE}
           -- A replay may have put one before what is under way.
           AND d.lane NOT IN (SELECT lane FROM webhook_deliveries WHERE endpoint = :endpoint AND claimed_until > now())
         ORDER BY d.next_attempt_at, d.event_id
         LIMIT coalesce((SELECT places FROM open), 0)
           FOR UPDATE OF d SKIP LOCKED),
    claimed AS (
        UPDATE webhook_deliveries AS d
           SET claim_id = :claim_id, claimed_until = now() + CAST(:claim AS interval)
          FROM first WHERE d.endpoint = :endpoint AND d.event_id = first.event_id
        RETURNING d.event_id, d.failures)
    SELECT e.id, e.at, e.type, e.client, e.grant_id, e.subject, e.data, claimed.failures,
           open.failures AS endpoint_failures, now() AS now
      FROM claimed JOIN events AS e ON e.id = claimed.event_id, open
     ORDER BY e.id
""")  # noqa: S608 -- the inserted text is a constant of this module
_OURS: Final = "endpoint = :endpoint AND event_id = :event_id AND claim_id = :claim_id"
_DELIVERED: Final = text(f"""
    WITH done AS (DELETE FROM webhook_deliveries WHERE {_OURS} RETURNING event_id),
    before AS (SELECT name, held_until FROM webhook_endpoints WHERE name = :endpoint FOR UPDATE)
    UPDATE webhook_endpoints AS w
       SET delivered = delivered + (SELECT count(*) FROM done), delivered_at = now(), failures = 0, held_until = NULL
      FROM before WHERE w.name = before.name
    RETURNING before.held_until IS NOT NULL AS was_held
""")  # noqa: S608 -- the inserted text is a constant of this module
# What failed only because the endpoint was away need not wait for its own next attempt.
_BACK: Final = text("""
    UPDATE webhook_deliveries SET next_attempt_at = now()
     WHERE endpoint = :endpoint AND dead_at IS NULL AND awaits_endpoint AND next_attempt_at > now()
""")
_FAILED: Final = text(f"""
    UPDATE webhook_deliveries
       SET failures = failures + 1, claim_id = NULL, claimed_until = NULL, awaits_endpoint = :awaits_endpoint,
           next_attempt_at = now() + coalesce(CAST(:wait AS interval), interval '0'),
           dead_at = CASE WHEN CAST(:wait AS interval) IS NULL THEN now() END,
           last_error = :error, last_error_at = now()
     WHERE {_OURS}
    RETURNING event_id
""")  # noqa: S608 -- the inserted text is a constant of this module
# Deliveries that fail side by side saw the same count: they are one failure of the endpoint.
_ENDPOINT_FAILED: Final = text("""
    UPDATE webhook_endpoints
       SET failures = CASE WHEN failures = :failures THEN failures + 1 ELSE failures END,
           held_until = CASE WHEN failures = :failures OR CAST(:asked AS interval) IS NOT NULL
                             THEN greatest(held_until, now() + CAST(:hold AS interval)) ELSE held_until END,
           last_error = :error, last_error_at = now()
     WHERE name = :endpoint
""")
_GONE: Final = text(f"""
    WITH back AS (
        UPDATE webhook_deliveries SET claim_id = NULL, claimed_until = NULL, last_error = :error, last_error_at = now()
         WHERE {_OURS})
    UPDATE webhook_endpoints SET paused_at = now(), paused_reason = 'gone', last_error = :error, last_error_at = now()
     WHERE name = :endpoint AND paused_at IS NULL
    RETURNING name
""")  # noqa: S608 -- the inserted text is a constant of this module
GONE: Final = "it answered 410 Gone: it wants no events any more"


class WebhookDeliveries:
    """Claims deliveries and stores what became of them. `new_id` is chance."""

    def __init__(self, engine: AsyncEngine, new_id: Callable[[], UUID]) -> None:
        self._engine = engine
        self._new_id = new_id

    async def due(self, endpoints: Sequence[str]) -> list[str]:
        """Return those of these endpoints for which something is due."""
        async with self._engine.connect() as connection:
            return list((await connection.execute(_DUE, {"names": list(endpoints)})).scalars())

    async def claim(self, endpoint: str, *, free: int, most: int, claim: timedelta) -> list[Claim]:
        """Claim what is due for an endpoint, each the first of its lane.

        Args:
            endpoint: its name.
            free: how many to claim at most.
            most: how many may be under way in all processes.
            claim: how long they are claimed.

        """
        claim_id = self._new_id()
        columns = {"endpoint": endpoint, "free": free, "most": most, "claim": claim, "claim_id": claim_id}
        async with self._engine.begin() as connection:
            found = (await connection.execute(_CLAIM, columns)).all()
        return [
            Claim(
                endpoint=endpoint,
                event=LoggedEvent(
                    id=row.id,
                    at=row.at,
                    type=row.type,
                    client=row.client,
                    grant_id=row.grant_id,
                    subject=row.subject,
                    data=row.data,
                ),
                claim_id=claim_id,
                failures=row.failures,
                endpoint_failures=row.endpoint_failures,
                now=row.now,
            )
            for row in found
        ]

    async def delivered(self, claim: Claim) -> None:
        """Store that an event has arrived. It may be repeated: the second time it changes nothing."""
        async with self._engine.begin() as connection:
            was_held = (await connection.execute(_DELIVERED, _guard(claim))).scalar_one_or_none()
            if was_held:
                await connection.execute(_BACK, {"endpoint": claim.endpoint})

    async def failed(
        self,
        claim: Claim,
        error: str,
        *,
        wait: timedelta | None,
        hold: timedelta | None,
        asked: timedelta | None,
        awaits_endpoint: bool,
    ) -> bool:
        """Store that an attempt has failed; tell whether the claim was still ours.

        Args:
            claim: what was attempted.
            error: why, in plain words.
            wait: until the next attempt; None: there is none, the event is dead for this endpoint.
            hold: how long the endpoint is spared; None: not at all.
            asked: how long the endpoint has asked to be spared, if it has.
            awaits_endpoint: whether any other event would have failed too.

        """
        async with self._engine.begin() as connection:
            columns = {**_guard(claim), "error": error, "wait": wait, "awaits_endpoint": awaits_endpoint}
            ours = (await connection.execute(_FAILED, columns)).first() is not None
            about = {"endpoint": claim.endpoint, "failures": claim.endpoint_failures, "error": error}
            await connection.execute(_ENDPOINT_FAILED, {**about, "hold": hold, "asked": asked})
        return ours

    async def gone(self, claim: Claim) -> bool:
        """Store that an endpoint wants nothing any more: what waits for it is kept; tell whether that is new."""
        async with self._engine.begin() as connection:
            return (await connection.execute(_GONE, {**_guard(claim), "error": GONE})).first() is not None


def _guard(claim: Claim) -> dict[str, Any]:
    return {"endpoint": claim.endpoint, "event_id": claim.event.id, "claim_id": claim.claim_id}
