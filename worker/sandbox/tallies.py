"""What the sandbox has counted, per client: kept in the store, and shown to Prometheus once committed."""

from __future__ import annotations

import sqlite3
from enum import StrEnum
from typing import Final

from prometheus_client import Counter

from worker.sandbox import metrics
from worker.sandbox.misbehaviour import Misbehaviour
from worker.sandbox.refusal import ErrorCode

NO_CLIENT: Final = ""
"""The client of requests that no registered client could be told for."""


class Tally(StrEnum):
    """What is counted per client, beside the answered error codes and the faults."""

    REFRESHES_PRESENTED = "refreshes_presented"
    ROTATIONS = "rotations"
    GRACE_REPLAYS = "grace_replays"
    PRESENTED_MORE_THAN_ONCE = "presented_more_than_once"
    DOUBLE_SPENDS = "double_spends"
    REPLAYS_AFTER_WITHHELD_ANSWER = "replays_after_withheld_answer"
    CODES_EXCHANGED = "codes_exchanged"
    GRANTS_SEEDED = "grants_seeded"


_COUNTERS: Final = {
    Tally.REFRESHES_PRESENTED: metrics.REFRESH_PRESENTED,
    Tally.ROTATIONS: metrics.ROTATIONS,
    Tally.DOUBLE_SPENDS: metrics.DOUBLE_SPENDS,
}
_ERROR: Final = "error:"
_FAULT: Final = "fault:"


class Tallies:
    """Counts within the running transaction; `write` before its commit, `publish` after it, `discard` instead."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._pending: list[tuple[str, str, int]] = []
        self._published: dict[tuple[str, str], Counter] = {}

    def count(self, client_id: str, tally: Tally, times: int = 1) -> None:
        """Count something that happened to a client."""
        self._pending.append((client_id, tally, times))

    def count_error(self, client_id: str, error: ErrorCode) -> None:
        """Count an error code that is answered."""
        self._pending.append((client_id, _ERROR + error, 1))

    def count_fault(self, client_id: str, kind: Misbehaviour) -> None:
        """Count a misbehaviour that is committed."""
        self._pending.append((client_id, _FAULT + kind, 1))

    def write(self) -> None:
        """Store what was counted, as part of the running transaction."""
        self._connection.executemany(
            "INSERT INTO tallies VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
            self._pending,
        )

    def publish(self) -> None:
        """Show Prometheus what has been committed."""
        for client_id, name, times in self._pending:
            counter = self._counter(client_id, name)
            if counter is not None:
                counter.inc(times)
        self._pending.clear()

    def discard(self) -> None:
        """Forget what was counted in a transaction that did not commit."""
        self._pending.clear()

    def read(self, client_id: str | None) -> dict[str, int]:
        """Return every count by its name, of one client or of all."""
        rows = self._connection.execute(
            "SELECT name, sum(count) FROM tallies WHERE :client_id IS NULL OR client_id = :client_id GROUP BY name",
            {"client_id": client_id},
        )
        return dict(rows)

    def _counter(self, client_id: str, name: str) -> Counter | None:
        known = self._published.get((client_id, name))
        if known is not None:
            return known
        if name.startswith(_FAULT):
            child = metrics.FAULTS.labels(client=client_id, kind=name.removeprefix(_FAULT))
        elif name in _COUNTERS:
            child = _COUNTERS[Tally(name)].labels(client=client_id)
        else:
            return None
        self._published[client_id, name] = child
        return child


def errors(counts: dict[str, int]) -> dict[ErrorCode, int]:
    """Return the answered error codes among `counts`."""
    return {
        ErrorCode(name.removeprefix(_ERROR)): count for name, count in sorted(counts.items()) if name.startswith(_ERROR)
    }


def faults(counts: dict[str, int]) -> dict[Misbehaviour, int]:
    """Return the committed misbehaviours among `counts`."""
    return {
        Misbehaviour(name.removeprefix(_FAULT)): count
        for name, count in sorted(counts.items())
        if name.startswith(_FAULT)
    }
