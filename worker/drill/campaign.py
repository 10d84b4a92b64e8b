"""The loop of a drill: faults by the plan while rotations run, then quiet until everything is settled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from worker.domain.grant import GrantState
from worker.drill.clients import CLIENTS
from worker.drill.faults import Fault
from worker.drill.plan import FaultKind, PlannedFault
from worker.drill.provider_faults import make_fault
from worker.drill.recovery import Recoveries
from worker.drill.watch import Sight
from worker.drill.world import World
from worker.sandbox.families import FamilyStatus

#: Seconds between two rounds of the loop, and between two looks at what costs more.
_ROUND: Final = 0.1
_LOOK_EVERY: Final = 0.5
_FILL_EVERY: Final = 2.0
_SAY_EVERY: Final = 5.0
#: Seconds for everything to be settled after the last fault: a suspect waits 90 s at most, a doubt 20 s.
SETTLES_WITHIN: Final = 150.0
#: Seconds that a fault and a rotation may take at most before the campaign is given up; both are some ten times less.
_FAULT_LIMIT: Final = 20.0
_ROTATION_LIMIT: Final = 2.0
_START_LIMIT: Final = 120.0
#: What takes a worker away in the middle of its work; a rolling restart lets it finish.
INTERRUPTIONS: Final = frozenset({FaultKind.WORKER_KILLED, FaultKind.WORKER_STOPPED})


@dataclass(slots=True, kw_only=True)
class CampaignRun:
    """What a campaign came to.

    Attributes:
        faults: how many of each kind were committed.
        seconds: how long faults were committed for.
        completed: all faults were committed and all rotations made.
        settled_after: seconds from the last fault until everything was settled; None: it was not in time.
        unsettled: what was not settled, in words.
        recoveries: seconds to recover, by kind of fault.
        interruptions: from when to when a worker was killed or stopped, as seconds since the epoch.

    """

    faults: Counter[FaultKind] = field(default_factory=Counter)
    seconds: float = 0.0
    completed: bool = False
    settled_after: float | None = None
    unsettled: str = ""
    recoveries: dict[FaultKind, list[float]] = field(default_factory=dict)
    interruptions: list[tuple[float, float]] = field(default_factory=list)


class Campaign:
    """Commits a plan's faults on a world.

    Args:
        world: what runs.
        plan: the faults in their order.
        rotations: how many must be stored before it ends.
        say: prints one line of progress.
        note: writes one line into the drill's own log, with the time of day.
        clock: seconds since the epoch, to be compared with what the sandbox and the database have recorded.

    """

    def __init__(
        self,
        world: World,
        plan: Sequence[PlannedFault],
        *,
        rotations: int,
        say: Callable[[str], None],
        note: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self._world = world
        self._plan = list(plan)
        self._rotations = rotations
        self._say = say
        self._note = note
        self._clock = clock
        self._under_way: list[tuple[Fault, float]] = []
        self._recoveries = Recoveries()
        self._run = CampaignRun(recoveries=self._recoveries.seconds)
        self._last: Sight | None = None
        self._next: dict[str, float] = {}
        self._began = 0.0

    def run(self) -> CampaignRun:
        """Run until every fault was committed and every rotation made, and everything has settled."""
        world = self._world
        self._began = world.monotonic()
        limit = _START_LIMIT + _FAULT_LIMIT * len(self._plan) + _ROTATION_LIMIT * self._rotations
        while not self._run.completed and world.monotonic() < self._began + limit:
            self._round()
            self._begin_due()
            done = self._last is not None and self._last.rotations >= self._rotations
            self._run.completed = done and not self._plan and not self._under_way
        for fault, _began in self._under_way:
            fault.end()
        self._run.seconds = world.monotonic() - self._began
        self._settle()
        return self._run

    def _round(self) -> None:
        world = self._world
        world.wait(_ROUND)
        world.processes.tend()
        for fault, began in list(self._under_way):
            if fault.is_over(world.monotonic() - began):
                self._under_way.remove((fault, began))
                fault.end()
                self._note(f"{fault.planned.number} {fault.planned.kind} is over")
                self._recoveries.ended(fault.planned.number, world.monotonic())
        if self._is_time("look", _LOOK_EVERY):
            sight = world.watch.look()
            if sight is not None:
                self._last = sight
                self._recoveries.seen(late=sight.late, troubled=sight.troubled, now=world.monotonic())
        if self._last is not None and self._plan and self._is_time("fill", _FILL_EVERY):
            world.population.fill(self._last.alive)
        if self._is_time("say", _SAY_EVERY):
            self._say(self._progress())

    def _begin_due(self) -> None:
        if self._last is None or not self._plan or self._last.rotations < self._plan[0].at_rotation:
            return
        fault = make_fault(self._plan[0], self._world)
        if fault.resource is not None and any(other.resource == fault.resource for other, _began in self._under_way):
            return
        del self._plan[0]
        now = self._world.monotonic()
        self._recoveries.began(fault.planned)
        self._note(f"{fault.planned.number} {fault.planned.kind} begins: {fault.planned}")
        began = self._clock()
        fault.begin()
        if fault.planned.kind in INTERRUPTIONS:
            lasts = fault.planned.seconds if fault.planned.kind is FaultKind.WORKER_STOPPED else 0.0
            self._run.interruptions.append((began, self._clock() + lasts))
        self._run.faults[fault.planned.kind] += 1
        self._under_way.append((fault, now))

    def _settle(self) -> None:
        world = self._world
        ended = world.monotonic()
        self._say(f"{self._progress()}; no more faults, waiting until everything is settled")
        quiet = 0
        while world.monotonic() < ended + SETTLES_WITHIN:
            self._round()
            if not self._is_time("settled", 1.0):
                continue
            self._run.unsettled = self._unsettled()
            # Twice in a row: between two looks a grant could go from one trouble into another.
            quiet = 0 if self._run.unsettled else quiet + 1
            if quiet > 1:
                self._run.settled_after = world.monotonic() - ended
                return

    def _unsettled(self) -> str:
        """Say what still has to happen; nothing where all is settled."""
        world = self._world
        sight, states = world.watch.look(), world.watch.states()
        if sight is None or states is None:
            return "the database is away"
        alive = {
            (client.name, family.account)
            for client in CLIENTS
            for family in world.sandbox.control.families(client.name, status=FamilyStatus.ALIVE)
        }
        ended_unnoticed = sum(state == GrantState.ACTIVE and key not in alive for key, state in states.items())
        suspects = sum(state == GrantState.SUSPECT and key in alive for key, state in states.items())
        found = {
            "grants in trouble": len(sight.troubled),
            "consents revoked and not noticed yet": ended_unnoticed,
            "grants suspected though alive": suspects,
            "settlements in the escrow": len(list((world.home / "escrow").glob("*.settlement"))),
            "faults not got over": self._recoveries.still_open(),
        }
        return ", ".join(f"{count} {what}" for what, count in found.items() if count)

    def _progress(self) -> str:
        rotations = self._last.rotations if self._last is not None else 0
        troubled = len(self._last.troubled) if self._last is not None else 0
        under_way = ", ".join(fault.planned.kind for fault, _began in self._under_way) or "-"
        return (
            f"{self._world.monotonic() - self._began:6.0f} s  {rotations} rotations  "
            f"{self._run.faults.total()} faults  {troubled} in trouble  now: {under_way}"
        )

    def _is_time(self, what: str, every: float) -> bool:
        now = self._world.monotonic()
        if now < self._next.get(what, 0.0):
            return False
        self._next[what] = now + every
        return True
