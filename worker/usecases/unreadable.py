"""Rows whose refresh token the key ring does not open: each is put off, and a client of nothing else is stopped."""

from __future__ import annotations

from typing import Final

from worker.domain.errors import UnknownKeyError
from worker.domain.outcome import Cause, Reason
from worker.domain.schedule import backoff
from worker.domain.settlement import Postpone
from worker.storage.claim import Claimed, UnreadableGrant

UNREADABLE: Final = Cause(reason=Reason.UNREADABLE_TOKEN)
#: So many unreadable rows in one claim, and not one readable, are no accident of a row: the key ring lacks a key.
ALL_UNREADABLE: Final = 2


def put_off(unreadable: UnreadableGrant, draw: float) -> Postpone:
    """Return what is stored for one unreadable row: it is tried again later, and stands in nobody's way meanwhile.

    Args:
        unreadable: as the claim found it.
        draw: chance in [0, 1).

    """
    return Postpone(cause=UNREADABLE, rotate_at=unreadable.claimed_at + backoff(unreadable.failures + 1, draw))


def lacks_a_key(claimed: Claimed, *, has_opened: bool) -> bool:
    """Tell whether a claim looks as if the key ring, and no row, were at fault: then the grants stay as they are.

    Args:
        claimed: what was claimed.
        has_opened: whether this process has opened a token of that client before: then damaged rows are only that.

    """
    if claimed.grants or len(claimed.unreadable) < ALL_UNREADABLE:
        return False
    return not has_opened or all(isinstance(found.error, UnknownKeyError) for found in claimed.unreadable)
