"""Which fault comes when: pure, and the same for the same seed."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import Final

from worker.domain.brake import FEWEST


class FaultKind(StrEnum):
    """Everything that a drill does to Evergrant."""

    # processes
    WORKER_KILLED = "worker_killed"
    WORKER_STOPPED = "worker_stopped"  #: SIGSTOP, and SIGCONT some seconds later
    WORKERS_ROLLED = "workers_rolled"  #: SIGTERM and a new one, one after the other
    BEAT_KILLED = "beat_killed"
    # database
    DATABASE_RESTARTED = "database_restarted"
    DATABASE_CRASHED = "database_crashed"
    DATABASE_CUT = "database_cut"
    DATABASE_REFUSED = "database_refused"
    DATABASE_STALLED = "database_stalled"
    # broker
    BROKER_RESTARTED = "broker_restarted"
    BROKER_CUT = "broker_cut"
    BROKER_STALLED = "broker_stalled"
    # provider
    REPLY_LOST = "reply_lost"
    REPLY_CUT = "reply_cut"
    ERROR_BEFORE = "error_before"
    ERROR_AFTER = "error_after"
    THROTTLED = "throttled"
    HTML_PAGE = "html_page"
    ANSWER_STALLED = "answer_stalled"
    SPURIOUS_INVALID_GRANT = "spurious_invalid_grant"
    TRUNCATED_JSON = "truncated_json"
    CONSENT_REVOKED = "consent_revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFault:
    """One fault of a plan.

    Attributes:
        number: its place in the plan, from 1.
        kind: what happens.
        at_rotation: it is due once so many rotations are stored.
        seconds: how long it lasts, where it lasts.
        client: the place of the client that it meets, where it meets one.
        target: chance in [0, 1) that picks the worker or the grant.

    """

    number: int
    kind: FaultKind
    at_rotation: int
    seconds: float
    client: int
    target: float


#: How often each kind comes, relative to the others: deaths of workers and lost answers most, for they cost tokens.
_WEIGHTS: Final = {
    FaultKind.WORKER_KILLED: 14,
    FaultKind.WORKER_STOPPED: 6,
    FaultKind.WORKERS_ROLLED: 2,
    FaultKind.BEAT_KILLED: 2,
    FaultKind.DATABASE_RESTARTED: 3,
    FaultKind.DATABASE_CRASHED: 3,
    FaultKind.DATABASE_CUT: 8,
    FaultKind.DATABASE_REFUSED: 4,
    FaultKind.DATABASE_STALLED: 6,
    FaultKind.BROKER_RESTARTED: 3,
    FaultKind.BROKER_CUT: 4,
    FaultKind.BROKER_STALLED: 3,
    FaultKind.REPLY_LOST: 7,
    FaultKind.REPLY_CUT: 4,
    FaultKind.ERROR_BEFORE: 4,
    FaultKind.ERROR_AFTER: 4,
    FaultKind.THROTTLED: 3,
    FaultKind.HTML_PAGE: 3,
    FaultKind.ANSWER_STALLED: 5,
    FaultKind.SPURIOUS_INVALID_GRANT: 5,
    FaultKind.TRUNCATED_JSON: 3,
    FaultKind.CONSENT_REVOKED: 4,
}
#: The faults that meet one client; the others meet whatever is under way.
ON_ONE_CLIENT: Final = frozenset(
    {
        FaultKind.REPLY_LOST,
        FaultKind.REPLY_CUT,
        FaultKind.ERROR_BEFORE,
        FaultKind.ERROR_AFTER,
        FaultKind.THROTTLED,
        FaultKind.HTML_PAGE,
        FaultKind.ANSWER_STALLED,
        FaultKind.SPURIOUS_INVALID_GRANT,
        FaultKind.TRUNCATED_JSON,
        FaultKind.CONSENT_REVOKED,
    }
)
#: Seconds that a lasting fault lasts.
_SHORTEST: Final = 0.3
_LONGEST: Final = 4.0
#: The first fault waits for this share of the rotations between two of them, so that there is something to break.
_JITTER: Final = 0.9
#: Consents revoked for one client in one drill: one more within its window, and the brake would rightly hold the rest.
MOST_REVOKED: Final = FEWEST - 1


def make_plan(*, faults: int, rotations: int, clients: int, draw: Callable[[], float]) -> tuple[PlannedFault, ...]:
    """Spread faults over the rotations of a drill.

    Every kind comes once before any comes by its weight, as far as there are faults enough.

    Args:
        faults: how many.
        rotations: over how many stored rotations they are spread.
        clients: how many clients there are to pick from.
        draw: chance in [0, 1); the same draws make the same plan.

    """
    kinds = _kinds(faults, draw)
    revoked = [0] * clients
    planned = []
    for place, drawn in enumerate(kinds):
        client = int(draw() * clients)
        kind = drawn
        if kind is FaultKind.CONSENT_REVOKED:
            revoked[client] += 1
            if revoked[client] > MOST_REVOKED:
                kind = FaultKind.WORKER_KILLED
        planned.append(
            PlannedFault(
                number=place + 1,
                kind=kind,
                at_rotation=int((place + 1 - _JITTER * draw()) * rotations / (faults + 1)),
                seconds=round(_SHORTEST + (_LONGEST - _SHORTEST) * draw(), 2),
                client=client,
                target=draw(),
            )
        )
    return tuple(planned)


def _kinds(faults: int, draw: Callable[[], float]) -> list[FaultKind]:
    each_once = _shuffled(list(FaultKind), draw)[:faults]
    kinds, weights = list(_WEIGHTS), list(accumulate(_WEIGHTS.values()))
    others = [kinds[bisect(weights, draw() * weights[-1])] for _ in range(faults - len(each_once))]
    return _shuffled(each_once + others, draw)


def _shuffled(kinds: list[FaultKind], draw: Callable[[], float]) -> list[FaultKind]:
    keyed = [(draw(), place) for place in range(len(kinds))]
    return [kinds[place] for _key, place in sorted(keyed)]
