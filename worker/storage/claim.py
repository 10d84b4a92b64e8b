"""The claim: one committed statement takes leases and records that the refresh tokens are about to be spent.

A client's row is locked first, in the same transaction, so that its pause, breaker, rate and concurrency hold over all
processes. No lock outlives the transaction, and the request leaves only after the commit.

A claim has its own thread: on a busy event loop each of its statements would wait for several turns of everything else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Engine, Row, TextClause, text
from sqlalchemy.exc import DBAPIError

from worker.domain.allowance import RAMP_LASTS, Allowance, ClientLimits, ClientStatus, allowance
from worker.domain.client_health import canary_wait
from worker.domain.errors import SealError
from worker.domain.grant import ClaimedGrant, GrantState, Lease
from worker.storage.sealing import ACCESS_TOKEN, REFRESH_TOKEN, KeyRing


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableGrant:
    """A claimed row whose refresh token the key ring does not open; it must be put off."""

    lease: Lease
    claimed_at: datetime
    failures: int
    error: SealError


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """What one claim brought, and when asking again may be worth it."""

    grants: tuple[ClaimedGrant, ...] = ()
    unreadable: tuple[UnreadableGrant, ...] = ()
    more: bool = False  #: as many as were allowed: further ones may be due
    held: bool = False  #: the client's limits, pause or breaker allowed none
    wait: timedelta | None = None
    reached: datetime | None = None  #: when the last of them was due: the next ones were due later


# The rows are locked in a materialized step of their own: folded into the UPDATE, a plan may run the limited
# subquery more than once and take more rows than it may.
_CLAIM: Final = """
    WITH {allowed} AS MATERIALIZED (
        SELECT id FROM grants
         WHERE client = :client AND leased_until IS NULL AND {which}
         ORDER BY {order}
         LIMIT {room}
           FOR UPDATE SKIP LOCKED)
    UPDATE grants AS g
       SET lease_id = gen_random_uuid(), leased_until = now() + :lease, spend_started_at = now(),
           leased_by = :leased_by
      FROM due
     WHERE g.id = due.id
    RETURNING {room} AS room, g.id, g.client, g.subject, g.state, g.generation, g.refresh_token, g.access_token,
              g.lease_id, g.leased_until, now() AS claimed_at, g.rotate_at, g.consented_at, g.access_expires_at,
              g.strikes, g.failures, g.presentations, g.doubt_since, g.scopes, g.lost_scopes, g.captured
"""
_AS_DECIDED: Final = {"allowed": "due", "room": "CAST(:room AS bigint)"}
_DUE: Final = "rotate_at <= now() AND state IN ('active', 'in_doubt', 'suspect')"
# Entries of what was claimed a moment ago stand before the others in the index until they are vacuumed: a drain goes
# on where it was, and does not walk over them each time.
_IN_LINE: Final = {"which": f"{_DUE} AND rotate_at >= CAST(:since AS timestamptz)", "order": "rotate_at"}
_CLAIM_DUE: Final = text(_CLAIM.format(**_AS_DECIDED, **_IN_LINE))
# Of a client that nothing holds back and that has no rate, in one statement that commits by itself: what `allowance`
# would decide then is what is left of its concurrency. The count sees what was committed while the lock was waited for;
# and a grant that was claimed meanwhile is looked at anew before it is locked. Zero rows: the long way tells why.
_CLAIM_FREELY: Final = text(
    _CLAIM.format(
        allowed="""locked AS MATERIALIZED (
            SELECT FROM client_status
             WHERE client = :client AND NOT paused_by_operator AND breaker_opened_at IS NULL
               AND (throttled_until IS NULL OR throttled_until <= now())
               AND (resumed_at IS NULL OR resumed_at <= now() - CAST(:ramp AS interval))
               FOR UPDATE),
        allowed AS MATERIALIZED (
            SELECT greatest(0, least(:room, :max_in_flight - grants_in_flight(:client))) AS room FROM locked),
        due""",
        room="coalesce((SELECT room FROM allowed), 0)",
        **_IN_LINE,
    )
)
_THE_BEGINNING: Final = datetime(1, 1, 2, tzinfo=UTC)
#: A canary is one of so many that are due first: after hours with an open breaker all grants of a client are due, and
#: no index has them in the order of their errors.
_CANARY_OF: Final = 1_000
_AMONG: Final = """id IN (
    SELECT id FROM grants WHERE client = :client AND leased_until IS NULL AND {due} ORDER BY rotate_at LIMIT {limit})
"""
# Another grant each time: one whose own fault opened the breaker would keep it open for all.
_CLAIM_CANARY: Final = text(
    _CLAIM.format(
        **_AS_DECIDED,
        which=f"{_DUE} AND {_AMONG.format(due=_DUE, limit=_CANARY_OF)}",
        order="last_error_at NULLS FIRST, rotate_at",
    )
)
_CLAIM_ONE: Final = text(
    _CLAIM.format(
        **_AS_DECIDED,
        # `rotated_at` too: where refresh tokens do not rotate, the generation stays.
        which="id = :grant_id AND generation = :generation AND state IN ('active', 'suspect')"
        " AND rotated_at IS NOT DISTINCT FROM CAST(:rotated_at AS timestamptz)",
        order="rotate_at",
    )
)

# What is in flight is counted when the lock was had, by a function: it sees what a sibling has claimed meanwhile, which
# this statement's own snapshot, from before the lock, could miss.
_LOCK_STATUS: Final = text("""
    SELECT locked.*, grants_in_flight(:client) AS in_flight
      FROM (SELECT now() AS now, paused_by_operator, throttled_until, breaker_opened_at IS NOT NULL AS breaker_open,
                   failed_canaries, canary_at, resumed_at, bucket, bucket_at
              FROM client_status WHERE client = :client FOR UPDATE) AS locked
""")
_ADD_STATUS: Final = text("INSERT INTO client_status (client) VALUES (:client) ON CONFLICT DO NOTHING")
_TAKE_FROM_BUCKET: Final = text("UPDATE client_status SET bucket = :bucket, bucket_at = now() WHERE client = :client")
_SEND_CANARY: Final = text("UPDATE client_status SET canary_at = now() + :wait WHERE client = :client")


#: Claims of different clients go on at once; those of one client wait for each other anyway.
CLAIM_THREADS: Final = 4


class Claims:
    """Takes leases on due grants.

    Args:
        engine: connections for `CLAIM_THREADS` at once.
        keys: opens the refresh tokens that the claim returns.
        tick: the monotonic clock, in seconds.
        worker: the number under which this worker's session lock vouches for it, None while none does.

    """

    def __init__(
        self,
        engine: Engine,
        keys: KeyRing,
        tick: Callable[[], float],
        worker: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._engine = engine
        self._at_once = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._keys = keys
        self._tick = tick
        self._worker = worker
        self._threads = ThreadPoolExecutor(CLAIM_THREADS, thread_name_prefix="claims")

    def close(self) -> None:
        """End the threads; one that waits for the database ends when its time limits do."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def claim_due(
        self, client: str, *, limits: ClientLimits, free: int, lease: timedelta, since: datetime | None = None
    ) -> Claimed:
        """Claim some of a client's due grants, the earliest due first, as far as the client's limits allow.

        Args:
            client: whose.
            limits: the client's.
            free: how many at most.
            lease: how long they are this worker's.
            since: those that were due before are passed over; where the claim before had come to.

        """
        which = {"since": since or _THE_BEGINNING}
        return await self._claim(_CLAIM_DUE, client, limits=limits, free=free, lease=lease, which=which)

    async def claim_one(
        self,
        grant_id: UUID,
        client: str,
        *,
        generation: int,
        rotated_at: datetime | None,
        limits: ClientLimits,
        lease: timedelta,
    ) -> Claimed:
        """Claim one grant, due or not, unless it was refreshed since, is leased or in doubt, or its client is held."""
        which = {"grant_id": grant_id, "generation": generation, "rotated_at": rotated_at}
        return await self._claim(_CLAIM_ONE, client, limits=limits, free=1, lease=lease, which=which)

    async def _claim(
        self,
        statement: TextClause,
        client: str,
        *,
        limits: ClientLimits,
        free: int,
        lease: timedelta,
        which: dict[str, Any],
    ) -> Claimed:
        parameters = {"client": client, "lease": lease, "leased_by": self._worker(), **which}
        loop = asyncio.get_running_loop()
        # With the context of whoever asks: what is traced of a statement belongs to its span.
        run = copy_context().run
        return await loop.run_in_executor(self._threads, run, self._take, statement, limits, free, parameters)

    def _take(self, statement: TextClause, limits: ClientLimits, free: int, parameters: dict[str, Any]) -> Claimed:
        try:
            return self._take_once(statement, limits, free, parameters)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
        # A failover or a pooler had closed the connection; with it the pool has given up all that were as old. To ask
        # each one whether it is alive before it is used would be a way to the database and back for every claim.
        return self._take_once(statement, limits, free, parameters)

    def _take_once(self, statement: TextClause, limits: ClientLimits, free: int, parameters: dict[str, Any]) -> Claimed:
        if statement is _CLAIM_DUE and limits.rate_per_second is None:
            claimed = self._take_freely(limits, free, parameters)
            if claimed is not None:
                return claimed
        asked_tick, client = self._tick(), parameters["client"]
        with self._engine.begin() as connection:
            status, failed_canaries = _lock_status(connection, client)
            allowed = allowance(status, limits, free)
            if allowed.grants == 0:
                return Claimed(held=True, wait=allowed.wait)
            if allowed.is_canary and statement is _CLAIM_DUE:
                statement = _CLAIM_CANARY
            rows = connection.execute(statement, {**parameters, "room": allowed.grants}).all()
            _record(connection, client, allowed, len(rows), failed_canaries)
        return self._open(rows, asked_tick, self._tick(), allowed)

    def _take_freely(self, limits: ClientLimits, free: int, parameters: dict[str, Any]) -> Claimed | None:
        """Claim in one statement; None: nothing is due, or something holds the client back."""
        asked_tick = self._tick()
        with self._at_once.connect() as connection:
            given = {**parameters, "room": free, "max_in_flight": limits.max_in_flight, "ramp": RAMP_LASTS}
            rows = connection.execute(_CLAIM_FREELY, given).all()
        if not rows:
            return None
        return self._open(rows, asked_tick, self._tick(), Allowance(grants=rows[0].room, bucket=None))

    def _open(self, rows: Sequence[Row[Any]], asked_tick: float, claimed_tick: float, allowed: Allowance) -> Claimed:
        grants: list[ClaimedGrant] = []
        unreadable: list[UnreadableGrant] = []
        for row in rows:
            try:
                grants.append(_claimed_grant(row, self._keys, asked_tick, claimed_tick, is_canary=allowed.is_canary))
            except SealError as error:
                lease = Lease(grant_id=row.id, lease_id=row.lease_id, generation=row.generation)
                unreadable.append(
                    UnreadableGrant(lease=lease, claimed_at=row.claimed_at, failures=row.failures, error=error)
                )
        # RETURNING keeps no order; the earliest deadline goes first.
        grants.sort(key=lambda grant: grant.rotate_at or grant.claimed_at)
        more = len(rows) == allowed.grants and not allowed.is_canary
        reached = max((row.rotate_at for row in rows if row.rotate_at is not None), default=None)
        return Claimed(
            grants=tuple(grants), unreadable=tuple(unreadable), more=more, wait=allowed.wait, reached=reached
        )


def _lock_status(connection: Connection, client: str) -> tuple[ClientStatus, int]:
    row = connection.execute(_LOCK_STATUS, {"client": client}).one_or_none()
    if row is None:
        connection.execute(_ADD_STATUS, {"client": client})
        row = connection.execute(_LOCK_STATUS, {"client": client}).one()
    return ClientStatus(
        now=row.now,
        paused_by_operator=row.paused_by_operator,
        throttled_until=row.throttled_until,
        breaker_open=row.breaker_open,
        canary_at=row.canary_at,
        resumed_at=row.resumed_at,
        bucket=row.bucket,
        bucket_at=row.bucket_at,
        in_flight=row.in_flight,
    ), row.failed_canaries


def _record(connection: Connection, client: str, allowed: Allowance, taken: int, failed_canaries: int) -> None:
    if not taken:
        return
    if allowed.is_canary:
        connection.execute(_SEND_CANARY, {"client": client, "wait": canary_wait(failed_canaries + 1)})
    elif allowed.bucket is not None:
        connection.execute(_TAKE_FROM_BUCKET, {"client": client, "bucket": allowed.bucket - taken})


def _claimed_grant(
    row: Row[Any], keys: KeyRing, asked_tick: float, claimed_tick: float, *, is_canary: bool
) -> ClaimedGrant:
    claimed_at: datetime = row.claimed_at
    bound = str(row.id)
    return ClaimedGrant(
        lease=Lease(grant_id=row.id, lease_id=row.lease_id, generation=row.generation),
        client=row.client,
        subject=row.subject,
        state=GrantState(row.state),
        refresh_token=keys.open(row.refresh_token, REFRESH_TOKEN, bound),
        access_token=keys.open(row.access_token, ACCESS_TOKEN, bound) if row.access_token is not None else None,
        # The lease has been running since some moment after the claim was asked for. Counted from when its answer was
        # read, a process that was stopped in between would believe it longer than it is.
        leased_until=row.leased_until - timedelta(seconds=claimed_tick - asked_tick),
        claimed_at=claimed_at,
        claimed_tick=claimed_tick,
        rotate_at=row.rotate_at,
        consented_at=row.consented_at,
        access_expires_at=row.access_expires_at,
        strikes=row.strikes,
        failures=row.failures,
        scopes=tuple(row.scopes) if row.scopes is not None else None,
        lost_scopes=tuple(row.lost_scopes or ()),
        captured=row.captured or {},
        presentations=row.presentations,
        doubt_since=row.doubt_since,
        is_canary=is_canary,
    )
