"""From what became of handing a mail in to where the mail stands next: one pure decision.

Accepted ──► sent
Refused ───► refused
Deferred ──► waiting, later and later │ given_up (tried for days)
Doubtful ──► waiting, it may come twice │ given_up (it has most likely come)
Trouble ───► waiting, and the attempt does not count
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from worker.domain.delivery import Accepted, Deferred, Delivery, Doubtful, Refused, Trouble
from worker.domain.reconsent import MailState

#: First wait after a server's "not now", doubled with each; greylisting servers take a mail after some minutes.
RETRY_FIRST: Final = timedelta(minutes=1)
RETRY_LONGEST: Final = timedelta(hours=1)
#: So many attempts take about two days: RFC 5321 section 4.5.4.1 gives a mail up after four or five.
ATTEMPTS: Final = 60
#: A mail that was handed over so often without an answer has most likely come: nobody wants it a fourth time.
DOUBTS: Final = 3
#: How long a mail waits that the server could not be asked about; the others do not.
TROUBLE_WAIT: Final = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """Where a mail stands after an attempt."""

    outcome: str  #: for the metric
    state: MailState
    why: str | None = None
    status: int | None = None
    wait: timedelta | None = None  #: of a mail that waits
    in_doubt: bool = False  #: the server may have it
    counted: bool = True  #: whether this was an attempt


def fate(delivery: Delivery, *, attempts: int, doubts: int, draw: float) -> Fate:  # noqa: PLR0911 -- one for each case
    """Decide where a mail stands next.

    Args:
        delivery: what became of handing it in.
        attempts: how many there have been, this one included.
        doubts: attempts before after which nobody knew whether the server had it.
        draw: chance in [0, 1).

    """
    wait = retry_wait(attempts, draw)
    match delivery:
        case Accepted():
            return Fate(outcome="sent", state=MailState.SENT)
        case Refused(status=status, reply=why):
            return Fate(outcome="refused", state=MailState.REFUSED, why=why, status=status)
        case Deferred(status=status, reply=why):
            if attempts >= ATTEMPTS:
                return Fate(outcome="given_up", state=MailState.GIVEN_UP, why=why, status=status)
            return Fate(outcome="deferred", state=MailState.WAITING, why=why, status=status, wait=wait)
        case Doubtful(what=what):
            if doubts + 1 >= DOUBTS:
                why = f"handed over {DOUBTS} times, and no answer came: {what}"
                return Fate(outcome="given_up", state=MailState.GIVEN_UP, why=why, in_doubt=True)
            why = f"handed over, and no answer came: {what}"
            return Fate(outcome="in_doubt", state=MailState.WAITING, why=why, wait=wait, in_doubt=True)
        case Trouble(status=status, what=why):
            return Fate(
                outcome="unavailable",
                state=MailState.WAITING,
                why=why,
                status=status,
                wait=TROUBLE_WAIT,
                counted=False,
            )


def retry_wait(attempts: int, draw: float) -> timedelta:
    """Return the wait after so many attempts; `draw` is chance in [0, 1)."""
    doublings = min(max(attempts, 1) - 1, 16)  # past 16 the bound is far beyond the longest wait
    return min(RETRY_FIRST * float(2**doublings), RETRY_LONGEST) * (0.5 + draw / 2)
