"""The faults, one class each: how it begins, when it is over, and how it ends."""

from __future__ import annotations

import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Final

from worker.domain.grant import GrantState
from worker.drill.clients import CLIENTS
from worker.drill.plan import PlannedFault
from worker.drill.tcp_proxy import TcpProxy
from worker.drill.world import World
from worker.embedded import stop_in_steps

#: Seconds for a worker to end after SIGTERM, before a rolling restart goes on without it.
_ROLL_LIMIT: Final = 25.0
#: Seconds that a server stays away in a restart, at most.
_LONGEST_AWAY: Final = 2.0


class Fault(ABC):
    """One fault under way.

    Attributes:
        resource: what no other fault may meet meanwhile; None where faults may overlap.

    """

    resource: ClassVar[str | None] = None

    def __init__(self, planned: PlannedFault, world: World) -> None:
        self.planned = planned
        self.world = world

    @abstractmethod
    def begin(self) -> None:
        """Commit the fault."""

    def is_over(self, seconds: float) -> bool:
        """Tell whether it has lasted long enough, `seconds` after it began."""
        return seconds >= self.planned.seconds

    def end(self) -> None:  # noqa: B027 -- most faults leave nothing to put right
        """Put right what does not go right by itself."""

    def pick(self, names: list[str]) -> str:
        """Return the name that the plan's draw picks."""
        return names[int(self.planned.target * len(names))]


class WorkerKilled(Fault):
    """SIGKILL of a worker, which is started again at once."""

    command = "worker"

    def begin(self) -> None:
        """Kill it and start another."""
        process = self.world.processes.end(self.pick(self.world.processes.named(self.command)), signal.SIGKILL)
        process.wait()
        self.world.processes.tend()

    def is_over(self, seconds: float) -> bool:  # noqa: ARG002 -- it takes no time
        """Say yes: the kill is done."""
        return True


class BeatKilled(WorkerKilled):
    """SIGKILL of a beat, which is started again at once."""

    command = "beat"


class WorkerStopped(Fault):
    """SIGSTOP of a worker, and SIGCONT later: a paused machine, a long collection of garbage."""

    resource = "pause"

    def begin(self) -> None:
        """Stop it."""
        self._process = self.world.processes.process(self.pick(self.world.processes.named("worker")))
        self._process.send_signal(signal.SIGSTOP)

    def end(self) -> None:
        """Let it go on, unless it has been killed meanwhile."""
        self._process.send_signal(signal.SIGCONT)


class WorkersRolled(Fault):
    """A rolling restart: SIGTERM of each worker, one after the other, each when the one before is back."""

    resource = "roll"

    def begin(self) -> None:
        """Begin with the first worker."""
        self._names = self.world.processes.named("worker")
        self._ending: subprocess.Popen[bytes] | None = None
        self._since = 0.0
        self.is_over(0.0)

    def is_over(self, seconds: float) -> bool:
        """Go on with the next worker where the last one has ended; tell whether all of them are done."""
        if self._ending is not None and self._ending.poll() is None:
            if seconds - self._since > _ROLL_LIMIT:
                stop_in_steps(self._ending, [(signal.SIGKILL, 10.0)])
            return False
        if not self._names:
            return True
        self._ending = self.world.processes.end(self._names.pop(0), signal.SIGTERM)
        self._since = seconds
        return False


class DatabaseRestarted(Fault):
    """PostgreSQL is shut down in the fast way, and comes back."""

    resource = "database"
    how = signal.SIGINT

    def begin(self) -> None:
        """Stop it."""
        self.world.services.stop_database(self.how)

    def is_over(self, seconds: float) -> bool:
        """Tell whether it has been away long enough."""
        return seconds >= min(self.planned.seconds, _LONGEST_AWAY)

    def end(self) -> None:
        """Start it."""
        self.world.services.start_database()


class DatabaseCrashed(DatabaseRestarted):
    """PostgreSQL ends at once, as in a crash, and replays its log when it comes back."""

    how = signal.SIGQUIT


class BrokerRestarted(Fault):
    """Valkey is killed, with what it has not written, and comes back."""

    resource = "broker"

    def begin(self) -> None:
        """Kill it."""
        self.world.services.stop_broker(signal.SIGKILL)

    def is_over(self, seconds: float) -> bool:
        """Tell whether it has been away long enough."""
        return seconds >= min(self.planned.seconds, _LONGEST_AWAY)

    def end(self) -> None:
        """Start it."""
        self.world.services.start_broker()


class Cut(Fault):
    """Every connection to a server breaks off; new ones go through."""

    proxy: ClassVar[Callable[[World], TcpProxy]]

    def begin(self) -> None:
        """Cut."""
        type(self).proxy(self.world).cut()

    def is_over(self, seconds: float) -> bool:  # noqa: ARG002 -- it takes no time
        """Say yes: the cut is done."""
        return True


class Stalled(Fault):
    """Connections stay and nothing moves on them for a while."""

    proxy: ClassVar[Callable[[World], TcpProxy]]

    def begin(self) -> None:
        """Hold everything back."""
        type(self).proxy(self.world).stall()

    def end(self) -> None:
        """Let it flow."""
        type(self).proxy(self.world).flow()


def _database(world: World) -> TcpProxy:
    return world.services.database


def _broker(world: World) -> TcpProxy:
    return world.services.broker


class DatabaseCut(Cut):
    """All connections to the database break off."""

    resource = "database"
    proxy = _database


class DatabaseStalled(Stalled):
    """Nothing moves between Evergrant and the database."""

    resource = "database"
    proxy = _database


class DatabaseRefused(Fault):
    """All connections to the database break off, and new ones are refused for a while."""

    resource = "database"

    def begin(self) -> None:
        """Refuse."""
        self.world.services.database.refuse()

    def end(self) -> None:
        """Accept."""
        self.world.services.database.accept()


class BrokerCut(Cut):
    """All connections to the broker break off."""

    resource = "broker"
    proxy = _broker


class BrokerStalled(Stalled):
    """Nothing moves between Evergrant and the broker."""

    resource = "broker"
    proxy = _broker


class ConsentRevoked(Fault):
    """An owner takes a consent back at the provider: this grant has really ended."""

    def begin(self) -> None:
        """End the family of one active grant."""
        client = CLIENTS[self.planned.client].name
        subjects = self.world.watch.subjects(client, GrantState.ACTIVE)
        if subjects:
            family = self.world.population.families[client, self.pick(subjects)]
            self.world.sandbox.control.revoke_family(family)

    def is_over(self, seconds: float) -> bool:  # noqa: ARG002 -- it takes no time
        """Say yes: the consent is gone."""
        return True
