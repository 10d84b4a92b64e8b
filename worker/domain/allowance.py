"""How many of a client's grants may be claimed now: pause, breaker, rate and concurrency in one pure decision."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

#: After a breaker or a brake a client starts with this many in flight, and doubles every `RAMP_DOUBLES`.
RAMP_START: Final = 2
RAMP_DOUBLES: Final = timedelta(seconds=2)
#: Doublings after which the ramp is over whatever the limit: 2 · 2^14 is more than any client has in flight.
_RAMP_ENDS: Final = 14
#: How long the ramp lasts at most.
RAMP_LASTS: Final = RAMP_DOUBLES * _RAMP_ENDS
#: A bucket holds one second's worth of its rate, and never less than one request.
BURST_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientLimits:
    """What the configuration allows a client, over all processes."""

    rate_per_second: float | None  #: None: no limit
    max_in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientStatus:
    """The client's row, locked for the claim's transaction. Instants are the database's."""

    now: datetime
    paused_by_operator: bool
    throttled_until: datetime | None
    breaker_open: bool
    canary_at: datetime | None
    resumed_at: datetime | None  #: since when the client catches up after a breaker or a brake
    bucket: float | None  #: None: never used, so full
    bucket_at: datetime | None
    in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """How many may be claimed now; when none, how long to wait before asking again is worth it."""

    grants: int
    bucket: float | None
    is_canary: bool = False
    wait: timedelta | None = None


def allowance(status: ClientStatus, limits: ClientLimits, free: int) -> Allowance:
    """Decide how many grants one worker may claim for a client.

    Args:
        status: the client's row.
        limits: its configured rate and concurrency.
        free: places the asking worker has free.

    """
    if status.paused_by_operator:
        return Allowance(grants=0, bucket=status.bucket)
    if status.throttled_until is not None and status.throttled_until > status.now:
        return Allowance(grants=0, bucket=status.bucket, wait=status.throttled_until - status.now)
    if status.breaker_open:
        return _canary(status)
    room = max(0, min(free, _most_in_flight(status, limits) - status.in_flight))
    if limits.rate_per_second is None:
        return Allowance(grants=room, bucket=None)
    bucket = _refilled(status, limits.rate_per_second)
    grants = min(room, int(bucket))
    wait = timedelta(seconds=(1 - bucket) / limits.rate_per_second) if bucket < 1 else None
    return Allowance(grants=grants, bucket=bucket, wait=wait)


def _canary(status: ClientStatus) -> Allowance:
    if status.in_flight == 0 and status.canary_at is not None and status.canary_at <= status.now:
        return Allowance(grants=1, bucket=status.bucket, is_canary=True)
    return Allowance(grants=0, bucket=status.bucket)


def _most_in_flight(status: ClientStatus, limits: ClientLimits) -> int:
    """Return the client's concurrency, smaller on the ramp of one that has just been resumed."""
    if status.resumed_at is None:
        return limits.max_in_flight
    doublings = (status.now - status.resumed_at) / RAMP_DOUBLES
    if doublings >= _RAMP_ENDS:
        return limits.max_in_flight
    return min(limits.max_in_flight, int(RAMP_START * 2.0 ** max(doublings, 0.0)))


def _refilled(status: ClientStatus, rate: float) -> float:
    capacity = max(1.0, rate * BURST_SECONDS)
    if status.bucket is None or status.bucket_at is None:
        return capacity
    elapsed = max(0.0, (status.now - status.bucket_at).total_seconds())
    return min(capacity, status.bucket + elapsed * rate)
