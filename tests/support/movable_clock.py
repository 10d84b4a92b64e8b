"""Time that passes on command, for the rows and for the workers at once: no test waits for a lease to end."""

from __future__ import annotations

from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.bootstrap import monotonic

_GRANTS: Final = (
    "state_since",
    "issued_at",
    "access_expires_at",
    "refresh_expires_at",
    "rotate_at",
    "leased_until",
    "spend_started_at",
    "last_error_at",
    "doubt_since",
    "consented_at",
    "rotated_at",
    "created_at",
)
_STATUS: Final = ("throttled_until", "breaker_opened_at", "canary_at", "resumed_at", "braked_at", "bucket_at")
_INSTANTS: Final = {"grants": _GRANTS, "client_status": _STATUS, "events": ("at",), "rotations": ("at",)}


class MovableClock:
    """The monotonic clock of workers whose database is moved along with it.

    The database's own clock cannot be moved, so every instant it has stored is put back by what is to have passed.
    """

    def __init__(self) -> None:
        self._passed = 0.0

    def tick(self) -> float:
        """Return the monotonic clock, in seconds."""
        return monotonic() + self._passed

    def stand_still(self, seconds: float) -> None:
        """Let seconds pass in which the process does nothing; nothing stored is moved."""
        self._passed += seconds

    async def pass_time(self, engine: AsyncEngine, seconds: float) -> None:
        """Let seconds pass: everything stored is older by them."""
        self._passed += seconds
        async with engine.begin() as connection:
            for table, columns in _INSTANTS.items():
                earlier = ", ".join(f"{column} = {column} - make_interval(secs => :seconds)" for column in columns)
                await connection.execute(text(f"UPDATE {table} SET {earlier}"), {"seconds": seconds})
