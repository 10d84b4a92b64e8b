"""Which tickets a tick sends: a pure decision over what is due."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

#: Due grants one ticket stands for. A drain goes on until nothing is due, so this only decides how many processes help.
GRANTS_PER_TICKET: Final = 200
#: Tickets per client and tick: more processes than this gain nothing before the next tick comes.
MOST_TICKETS: Final = 8
#: Counting stops here, so that a scan stays flat when a million grants are overdue.
COUNTED_AT_MOST: Final = GRANTS_PER_TICKET * MOST_TICKETS


@dataclass(frozen=True, slots=True, kw_only=True)
class DueGrants:
    """What a scan found for one client: how many are due (counted up to a bound) and since when the oldest is."""

    client: str
    count: int
    oldest: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """A hint to drain one client. Lost, late or delivered twice, it changes nothing: the rows decide."""

    client: str


def tickets(due: Sequence[DueGrants]) -> list[Ticket]:
    """Return the tickets for what is due: the client waiting longest first, further tickets in turns.

    The turns keep a client with a hundred thousand overdue grants from queueing before everybody else.
    """
    by_age = sorted((found for found in due if found.count), key=lambda found: (found.oldest, found.client))
    wanted = {found.client: min(MOST_TICKETS, -(-found.count // GRANTS_PER_TICKET)) for found in by_age}
    return [
        Ticket(client=found.client) for turn in range(MOST_TICKETS) for found in by_age if wanted[found.client] > turn
    ]
