"""Keeps the state bounded: forgets what can no longer change any answer.

The consumed tokens of a living family stay, however old: without them reuse could not be told from a guess.
"""

from __future__ import annotations

import sqlite3
from typing import Final

CODE_RETENTION_S: Final = 86_400.0  # a code used twice within a day still revokes its family
PRUNED_FAMILIES_AT_ONCE: Final = 200  # bounds how long one pruning holds up requests to a few milliseconds


def prune(connection: sqlite3.Connection, *, now: float, retention: float) -> int:
    """Forget, within the caller's transaction, what is over; return how many refresh tokens were forgotten.

    Args:
        connection: the store's.
        now: epoch seconds.
        retention: seconds for which a family that is revoked or expired keeps its refresh tokens.
    """
    run = connection.execute
    run("DELETE FROM grace_answers WHERE kept_until <= ?", (now,))
    run("DELETE FROM codes WHERE expires_at <= ?", (now - CODE_RETENTION_S,))
    run("DELETE FROM revoked_access_tokens WHERE expires_at <= ?", (now,))
    gone = run(
        "SELECT id FROM families WHERE pruned = 0 AND revoked_at <= :gone_at"
        " UNION ALL SELECT id FROM families WHERE pruned = 0 AND expires_at <= :gone_at LIMIT :at_once",
        {"gone_at": now - retention, "at_once": PRUNED_FAMILIES_AT_ONCE},
    ).fetchall()
    forgotten = 0
    for family in gone:
        forgotten += run("DELETE FROM refresh_tokens WHERE family_id = ?", family).rowcount
        run("UPDATE families SET pruned = 1 WHERE id = ?", family)
    return forgotten
