"""How long Evergrant takes to get over a fault: pure bookkeeping over looks at the database."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from worker.drill.clients import CLIENTS
from worker.drill.plan import ON_ONE_CLIENT, FaultKind, PlannedFault

Key = tuple[str, str]
"""A grant: its client and its subject."""

#: Seconds after a fault's end in which what begins is counted as its own: a lost session shows after 3 s.
BELONGS: Final = 5.0


@dataclass(slots=True, kw_only=True)
class _Open:
    kind: FaultKind
    client: str | None
    ended: float | None = None
    met: set[Key] = field(default_factory=set)
    last_out: float | None = None


class Recoveries:
    """Tells for each fault when the last grant that it may have met was well again.

    After a fault of servers and processes that is: no longer late. After one of the provider: neither late nor in
    doubt, struck or failed, among the grants of the client that it met. A grant that falls into several faults' time
    counts for each, so the figures are upper bounds. Instants are readings of a monotonic clock in seconds.
    """

    def __init__(self) -> None:
        self._open: dict[int, _Open] = {}
        self._late: frozenset[Key] = frozenset()
        self._troubled: frozenset[Key] = frozenset()
        self.seconds: dict[FaultKind, list[float]] = {}

    def began(self, planned: PlannedFault) -> None:
        """Note that a fault begins."""
        client = CLIENTS[planned.client].name if planned.kind in ON_ONE_CLIENT else None
        self._open[planned.number] = _Open(kind=planned.kind, client=client)

    def ended(self, number: int, now: float) -> None:
        """Note that a fault is over; from here its recovery counts."""
        self._open[number].ended = now

    def seen(self, *, late: frozenset[Key], troubled: frozenset[Key], now: float) -> None:
        """Note which grants are late and which in any trouble now."""
        for number, fault in list(self._open.items()):
            before, here = (self._late, late) if fault.client is None else (self._troubled, troubled)
            if fault.ended is None or now <= fault.ended + BELONGS:
                fault.met |= {key for key in here - before if fault.client in {None, key[0]}}
            if fault.met - here:
                fault.last_out = now
                fault.met &= here
            if fault.ended is not None and now > fault.ended + BELONGS and not fault.met:
                took = 0.0 if fault.last_out is None else max(0.0, fault.last_out - fault.ended)
                self.seconds.setdefault(fault.kind, []).append(took)
                del self._open[number]
        self._late, self._troubled = late, troubled

    def still_open(self) -> int:
        """Return how many faults are not got over yet."""
        return len(self._open)
