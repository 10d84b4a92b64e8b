"""What the drill sees of Evergrant's database while it runs: progress, and which grants are in trouble."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import psycopg

from worker.domain.secret import Secret
from worker.drill.recovery import Key

#: Seconds for one look; the drill's own connection is never a fault's, but the server may be away.
_PATIENCE: Final = 2
_TROUBLED: Final = """
    SELECT client, subject, is_late
      FROM (SELECT client, subject, state = 'in_doubt' OR strikes > 0 OR failures > 0 AS is_doubted,
                   coalesce(spend_started_at < now() - interval '4 seconds', false) AND leased_until IS NOT NULL
                   OR leased_until IS NULL AND rotate_at < now() - interval '3 seconds' AS is_late
              FROM grants
             WHERE state IN ('active', 'in_doubt')) AS seen
     WHERE is_doubted OR is_late
"""
_ALIVE: Final = "SELECT client, count(*) FROM grants WHERE state <> 'reconsent_required' GROUP BY client"
_ROTATIONS: Final = "SELECT count(*) FROM rotations"
_SUBJECTS: Final = "SELECT subject FROM grants WHERE client = %s AND state = %s ORDER BY subject"
_STATES: Final = "SELECT client, subject, state FROM grants"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """One look at the database.

    Attributes:
        rotations: how many were stored so far.
        late: the grants that are overdue by more than 3 s or leased for more than 4 s, by client and subject.
        troubled: those, and the grants that are in doubt, struck or failed, whose next try may be meant to wait.
        alive: how many grants of each client do not need their owner.

    """

    rotations: int
    late: frozenset[Key]
    troubled: frozenset[Key]
    alive: Mapping[str, int]


class Watch:
    """Looks at the database over a connection of its own; the database may be away.

    Args:
        url: the drill's own way to the database.

    """

    def __init__(self, url: Secret) -> None:
        self._url = url
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None

    def look(self) -> Sight | None:
        """Return what is seen, None while the database is away."""
        rotations = self._rows(_ROTATIONS)
        troubled = self._rows(_TROUBLED)
        alive = self._rows(_ALIVE)
        if rotations is None or troubled is None or alive is None:
            return None
        return Sight(
            rotations=int(str(rotations[0][0])),
            late=frozenset((str(row[0]), str(row[1])) for row in troubled if row[2]),
            troubled=frozenset((str(row[0]), str(row[1])) for row in troubled),
            alive={str(row[0]): int(str(row[1])) for row in alive},
        )

    def subjects(self, client: str, state: str) -> list[str]:
        """Return a client's subjects in a state; none while the database is away."""
        return [str(row[0]) for row in self._rows(_SUBJECTS, client, state) or ()]

    def states(self) -> dict[tuple[str, str], str] | None:
        """Return every grant's state by client and subject, None while the database is away."""
        rows = self._rows(_STATES)
        return None if rows is None else {(str(row[0]), str(row[1])): str(row[2]) for row in rows}

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _rows(self, statement: str, *parameters: str) -> list[tuple[object, ...]] | None:
        try:
            if self._connection is None:
                self._connection = psycopg.connect(
                    self._url.reveal(), autocommit=True, connect_timeout=_PATIENCE, application_name="evergrant drill"
                )
            return self._connection.execute(statement.encode(), parameters).fetchall()
        except psycopg.Error:
            self.close()
            return None
