"""The rescue: leases with a spend record and no settle that ran out, or whose worker's session lock is gone.

The grant goes in doubt, never back to the queue. Its `lease_id` stays, so that the answer of a worker that was only cut
off still finds its row and ends the doubt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.domain.doubt import GiveUp, PresentAgain, is_within_grace, plan_doubt
from worker.domain.facts import TokenFacts
from worker.storage.presence import PRESENCE

#: Rescued in one transaction at most; the next tick takes the rest.
BATCH_LIMIT: Final = 500

#: Within this of a claim, or of the database's own start, a missing session lock may only be one that is being taken.
PATIENCE: Final = timedelta(seconds=3)

_ABANDONED: Final = text("""
    SELECT id, client, lease_id, leased_until, state, presentations, strikes, rotate_at, doubt_since, spend_started_at,
           access_expires_at, now() AS now
      FROM grants AS g
     WHERE leased_until < now()
        OR (leased_until IS NOT NULL AND leased_by IS NOT NULL
            AND spend_started_at < now() - CAST(:patience AS interval)
            AND pg_postmaster_start_time() < now() - CAST(:patience AS interval)
            AND NOT EXISTS (
                SELECT FROM pg_locks AS l
                 WHERE l.locktype = 'advisory' AND l.granted AND l.classid = CAST(:presence AS oid)
                   AND l.objid = CAST(g.leased_by AS oid)
                   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())))
     ORDER BY leased_until LIMIT :limit FOR UPDATE OF g SKIP LOCKED
""")
_ENTER_DOUBT: Final = text("""
    WITH rescued AS (
        UPDATE grants AS g
           SET leased_until = NULL, spend_started_at = NULL, state = 'in_doubt', state_reason = 'worker_died',
               state_since = CASE WHEN g.state = 'in_doubt' THEN g.state_since ELSE now() END,
               presentations = g.presentations + 1, doubt_since = coalesce(g.doubt_since, g.spend_started_at),
               rotate_at = s.rotate_at
          FROM unnest(CAST(:ids AS uuid[]), CAST(:lease_ids AS uuid[]), CAST(:rotate_ats AS timestamptz[]))
               AS s (id, lease_id, rotate_at)
         WHERE g.id = s.id AND g.lease_id = s.lease_id AND g.state IN ('active', 'in_doubt', 'suspect')
        RETURNING g.id, g.client, g.subject, g.generation)
    INSERT INTO events (type, client, grant_id, subject, data)
    SELECT 'grant.in_doubt', client, id, subject,
           jsonb_build_object('generation', generation, 'reason', 'worker_died')
      FROM rescued
    RETURNING grant_id
""")
_GIVE_UP: Final = text("""
    WITH given_up AS (
        UPDATE grants AS g
           SET leased_until = NULL, spend_started_at = NULL, rotate_at = NULL, state = 'reconsent_required',
               state_reason = 'rotation_reply_lost', state_since = now()
          FROM unnest(CAST(:ids AS uuid[]), CAST(:lease_ids AS uuid[])) AS s (id, lease_id)
         WHERE g.id = s.id AND g.lease_id = s.lease_id
           AND g.state IN ('active', 'in_doubt', 'suspect')
        RETURNING g.id, g.client, g.subject, g.generation)
    INSERT INTO events (type, client, grant_id, subject, data)
    SELECT 'grant.reconsent_required', client, id, subject,
           jsonb_build_object('generation', generation, 'reason', 'rotation_reply_lost')
      FROM given_up
    RETURNING grant_id
""")
#: A grant that an operator paused or revoked keeps that state. Its refresh token may have been spent all the same, and
#: whoever lets it go on must know.
_END_LEASE: Final = text("""
    UPDATE grants AS g
       SET leased_until = NULL, spend_started_at = NULL, presentations = g.presentations + 1,
           doubt_since = coalesce(g.doubt_since, g.spend_started_at)
      FROM unnest(CAST(:ids AS uuid[]), CAST(:lease_ids AS uuid[])) AS s (id, lease_id)
     WHERE g.id = s.id AND g.lease_id = s.lease_id AND g.leased_until IS NOT NULL
       AND g.state NOT IN ('active', 'in_doubt', 'suspect')
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescued:
    """How many leases were ended, and the clients of the grants that were given up."""

    leases: int = 0
    in_doubt: tuple[str, ...] = ()
    given_up: tuple[str, ...] = ()


async def rescue_abandoned_leases(
    engine: AsyncEngine, facts: Mapping[str, TokenFacts], draw: Callable[[], float]
) -> Rescued:
    """End leases that ran out or whose worker is gone, and put their grants in doubt by their provider's facts.

    Args:
        engine: the process's connections.
        facts: by client name; a client that is no longer configured counts as unknown, which is single use.
        draw: chance in [0, 1).

    """
    looked_for = {"limit": BATCH_LIMIT, "patience": PATIENCE, "presence": PRESENCE}
    async with engine.begin() as connection:
        rows = (await connection.execute(_ABANDONED, looked_for)).all()
        if not rows:
            return Rescued()
        plans = [(row, _plan(row, facts.get(row.client, TokenFacts()), draw())) for row in rows]
        again = [(row, plan.at) for row, plan in plans if isinstance(plan, PresentAgain)]
        lost = [row for row, plan in plans if isinstance(plan, GiveUp)]
        parameters = {**_leases([row for row, _at in again]), "rotate_ats": [at for _row, at in again]}
        in_doubt = set((await connection.execute(_ENTER_DOUBT, parameters)).scalars())
        given_up = set((await connection.execute(_GIVE_UP, _leases(lost))).scalars())
        await connection.execute(_END_LEASE, _leases(rows))
    return Rescued(leases=len(rows), in_doubt=_clients(rows, in_doubt), given_up=_clients(rows, given_up))


def _leases(rows: Sequence[Row[Any]]) -> dict[str, list[UUID]]:
    return {"ids": [row.id for row in rows], "lease_ids": [row.lease_id for row in rows]}


def _plan(row: Row[Any], facts: TokenFacts, draw: float) -> PresentAgain | GiveUp:
    doubt_since = row.doubt_since or row.spend_started_at or row.now
    plan = plan_doubt(
        facts=facts,
        now=row.now,
        doubt_since=doubt_since,
        presentations=row.presentations + 1,
        access_expires_at=row.access_expires_at,
        draw=draw,
        strike_waits=row.rotate_at if row.strikes else None,
    )
    match plan:
        case PresentAgain(at=at) if not is_within_grace(at, facts=facts, doubt_since=doubt_since):
            # Its worker may only be cut off, and its request still on the way: without a grace that could run out
            # there is no hurry, and by the end of the lease the answer is there or will not be read.
            return PresentAgain(at=max(at, row.leased_until))
        case _:
            return plan


def _clients(rows: Sequence[Row[Any]], ids: set[UUID]) -> tuple[str, ...]:
    return tuple(row.client for row in rows if row.id in ids)
