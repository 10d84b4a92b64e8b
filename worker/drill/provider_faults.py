"""The faults of the provider: misbehaviours ordered at the sandbox, each for the next request of one client."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from worker.domain.grant import GrantState
from worker.drill import faults
from worker.drill.clients import CLIENTS, REQUEST_TIMEOUT
from worker.drill.faults import Fault
from worker.drill.plan import FaultKind, PlannedFault
from worker.drill.world import World
from worker.sandbox.misbehaviour import Misbehaviour, Order

#: Seconds for a request to come that meets the order; then it is taken back.
_MET_WITHIN: Final = 20.0
#: Seconds that a client is asked to wait.
_RETRY_AFTER: Final = 1
_HALF: Final = 0.5


class Misbehaves(Fault):
    """The next refresh of one client meets a misbehaviour."""

    def begin(self) -> None:
        """Order it."""
        self._order_id = self.world.sandbox.control.order(self.make_order())

    def make_order(self) -> Order:
        """Return the order: for whichever grant of the client comes next."""
        return _order(self.planned)

    def is_over(self, seconds: float) -> bool:
        """Tell whether a request has met it, or none will."""
        if seconds >= _MET_WITHIN:
            return True
        standing = self.world.sandbox.control.standing_orders()
        return all(placed.order_id != self._order_id for placed in standing)

    def end(self) -> None:
        """Take the order back where no request has met it."""
        self.world.sandbox.control.cancel_order(self._order_id)


class SpuriouslyRefused(Misbehaves):
    """One grant is refused once, though it is alive. No grant is refused twice, for that would be a provider's word."""

    def make_order(self) -> Order:
        """Return the order: for one active grant that was not refused before."""
        client = CLIENTS[self.planned.client].name
        refused = self.world.population.spuriously_refused
        subjects = [its for its in self.world.watch.subjects(client, GrantState.ACTIVE) if (client, its) not in refused]
        if not subjects:
            return super().make_order()
        subject = self.pick(subjects)
        refused.add((client, subject))
        family_id = self.world.population.families[client, subject]
        return replace(super().make_order(), client_id=None, family_id=family_id)


_MISBEHAVIOURS: Final = {
    FaultKind.REPLY_LOST: Misbehaviour.LOST_REPLY,
    FaultKind.REPLY_CUT: Misbehaviour.CUT_REPLY,
    FaultKind.ERROR_BEFORE: Misbehaviour.ERROR_BEFORE,
    FaultKind.ERROR_AFTER: Misbehaviour.ERROR_AFTER,
    FaultKind.THROTTLED: Misbehaviour.THROTTLED,
    FaultKind.HTML_PAGE: Misbehaviour.HTML_PAGE,
    FaultKind.ANSWER_STALLED: Misbehaviour.STALL,
    FaultKind.SPURIOUS_INVALID_GRANT: Misbehaviour.SPURIOUS_INVALID_GRANT,
    FaultKind.TRUNCATED_JSON: Misbehaviour.TRUNCATED_JSON,
}
_OTHERS: Final[dict[FaultKind, Callable[[PlannedFault, World], Fault]]] = {
    FaultKind.WORKER_KILLED: faults.WorkerKilled,
    FaultKind.WORKER_STOPPED: faults.WorkerStopped,
    FaultKind.WORKERS_ROLLED: faults.WorkersRolled,
    FaultKind.BEAT_KILLED: faults.BeatKilled,
    FaultKind.DATABASE_RESTARTED: faults.DatabaseRestarted,
    FaultKind.DATABASE_CRASHED: faults.DatabaseCrashed,
    FaultKind.DATABASE_CUT: faults.DatabaseCut,
    FaultKind.DATABASE_REFUSED: faults.DatabaseRefused,
    FaultKind.DATABASE_STALLED: faults.DatabaseStalled,
    FaultKind.BROKER_RESTARTED: faults.BrokerRestarted,
    FaultKind.BROKER_CUT: faults.BrokerCut,
    FaultKind.BROKER_STALLED: faults.BrokerStalled,
    FaultKind.CONSENT_REVOKED: faults.ConsentRevoked,
}


def make_fault(planned: PlannedFault, world: World) -> Fault:
    """Return the fault that a plan asks for."""
    if planned.kind is FaultKind.SPURIOUS_INVALID_GRANT:
        return SpuriouslyRefused(planned, world)
    if planned.kind in _MISBEHAVIOURS:
        return Misbehaves(planned, world)
    return _OTHERS[planned.kind](planned, world)


def _order(planned: PlannedFault) -> Order:
    return Order(
        kind=_MISBEHAVIOURS[planned.kind],
        client_id=CLIENTS[planned.client].name,
        times=1,
        retry_after=_RETRY_AFTER,
        stall=REQUEST_TIMEOUT + 1.5,
        after_rotating=planned.kind is FaultKind.HTML_PAGE and planned.target < _HALF,
    )
