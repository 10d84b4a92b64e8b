"""The brake, applied in the settle's own transaction: deaths beyond the client's room become suspicions.

The client's row is locked while its deaths are counted, so that workers that settle at once share one room.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row, text

from worker.domain.brake import JUDGED_AFTER, OVERRULED_FOR, RELEASED_BY, WINDOW, looked_back, room_for_deaths
from worker.domain.outcome import Reason
from worker.domain.settlement import MarkSuspect
from worker.storage.sealed_settlement import SealedSettlement

#: More grants than this give no more room: the share of them that may die is large enough to see what is going on.
_COUNTED_AT_MOST: Final = 100_000
#: So many of the newest rotations, over all clients, are looked through for those of one.
_NEWEST: Final = 100_000

_DYING: Final = text("""
    SELECT id, client, now() - state_since AS refused_for,
           state = 'suspect' AND state_since < now() - CAST(:judged_after AS interval) AS refused_for_long
      FROM grants WHERE id = ANY(CAST(:ids AS uuid[]))
""")
_LOCK: Final = text("""
    SELECT braked_at, brake_overruled_at > now() - CAST(:overruled_for AS interval) AS is_overruled
      FROM client_status WHERE client = :client FOR UPDATE
""")
_COUNT: Final = text("""
    SELECT (SELECT CAST(least(coalesce(sum(grants), 0), :most) AS bigint)
              FROM grant_counts WHERE client = :client) AS grants,
           (SELECT count(*) FROM events
             WHERE type = 'grant.reconsent_required' AND client = :client AND at > now() - CAST(:window AS interval)
               AND data ->> 'reason' = :reason) AS died
""")
_REFRESHES: Final = text("""
    SELECT count(*) FROM (
        SELECT FROM (SELECT client, at FROM rotations ORDER BY id DESC LIMIT :newest) AS newest
         WHERE client = :client AND at > now() - CAST(:window AS interval) LIMIT :enough) AS found
""")
# A small client is hardly refreshed three times in ten minutes, and its rotations are far behind those of others.
_REFRESHES_BY_THE_HOUR: Final = text("""
    SELECT CAST(coalesce(sum(refreshes), 0) AS bigint) FROM refresh_hours
     WHERE client = :client AND outcome = 'rotated' AND hour >= now() - CAST(:looked_back AS interval)
""")
_PUT_ON: Final = text("""
    WITH braked AS (
        UPDATE client_status SET braked_at = now(), suspects_refreshed = 0
         WHERE client = :client AND braked_at IS NULL
        RETURNING client)
    INSERT INTO events (type, client) SELECT 'client.braked', client FROM braked
""")


def apply_brake(connection: Connection, batch: Sequence[SealedSettlement]) -> Sequence[SealedSettlement]:
    """Return the batch with the deaths beyond each client's room turned into suspicions, and put brakes on.

    Args:
        connection: inside the transaction that will store the batch.
        batch: what is about to be stored.

    """
    deaths = {sealed.lease.grant_id: sealed for sealed in batch if sealed.if_braked is not None}
    if not deaths:
        return batch
    looked_for = {"ids": list(deaths), "judged_after": JUDGED_AFTER}
    by_client: dict[str, list[Row[Any]]] = {}
    for row in connection.execute(_DYING, looked_for):
        by_client.setdefault(row.client, []).append(row)
    braked: set[UUID] = set()
    for client in sorted(by_client):  # in one order everywhere, so that no two wait for each other
        braked |= _beyond_room(connection, client, by_client[client])
    return [
        _suspect(sealed) if sealed.if_braked is not None and sealed.lease.grant_id in braked else sealed
        for sealed in batch
    ]


def _beyond_room(connection: Connection, client: str, dying: Sequence[Row[Any]]) -> set[UUID]:
    status = connection.execute(_LOCK, {"client": client, "overruled_for": OVERRULED_FOR}).one_or_none()
    if status is not None and status.is_overruled:
        return set()
    if status is not None and status.braked_at is not None:
        return _not_judged(connection, client, dying)
    looked_for = {"client": client, "most": _COUNTED_AT_MOST, "window": WINDOW, "reason": Reason.INVALID_GRANT.value}
    counted = connection.execute(_COUNT, looked_for).one()
    room = room_for_deaths(grants=counted.grants, died_in_window=counted.died)
    if len(dying) <= room:
        return set()
    connection.execute(_PUT_ON, {"client": client})
    return {row.id for row in dying[room:]}


def _not_judged(connection: Connection, client: str, dying: Sequence[Row[Any]]) -> set[UUID]:
    """Return those of a braked client that may still come back."""
    judged = [row for row in dying if row.refused_for_long]
    if judged and _others_are_refreshed(connection, client, min(row.refused_for for row in judged)):
        return {row.id for row in dying if not row.refused_for_long}
    return {row.id for row in dying}


def _others_are_refreshed(connection: Connection, client: str, refused_for: timedelta) -> bool:
    looked_for = {"client": client, "window": WINDOW, "enough": RELEASED_BY, "newest": _NEWEST}
    if connection.execute(_REFRESHES, looked_for).scalar_one() >= RELEASED_BY:
        return True
    by_the_hour = {"client": client, "looked_back": looked_back(refused_for)}
    return bool(connection.execute(_REFRESHES_BY_THE_HOUR, by_the_hour).scalar_one() >= RELEASED_BY)


def _suspect(sealed: SealedSettlement) -> SealedSettlement:
    columns = {name: value for name, value in sealed.columns.items() if name != "fingerprint"}
    return replace(sealed, kind=MarkSuspect, columns={**columns, "rotate_at": sealed.if_braked}, if_braked=None)
