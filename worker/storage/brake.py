"""The brake, applied in the settle's own transaction: deaths beyond the client's room become suspicions.

The client's row is locked while its deaths are counted, so that workers that settle at once share one room.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.domain.brake import WINDOW, room_for_deaths
from worker.domain.outcome import Reason
from worker.domain.settlement import MarkSuspect
from worker.storage.settle import SealedSettlement

#: Grants are counted up to here: beyond, the share of them that may die is large enough to see what is going on.
_COUNTED_AT_MOST: Final = 100_000

_CLIENTS: Final = text("SELECT id, client FROM grants WHERE id = ANY(CAST(:ids AS uuid[]))")
_LOCK: Final = text("SELECT braked_at FROM client_status WHERE client = :client FOR UPDATE")
_COUNT: Final = text("""
    SELECT (SELECT count(*) FROM (SELECT FROM grants WHERE client = :client LIMIT :most) AS counted) AS grants,
           (SELECT count(*) FROM events
             WHERE type = 'grant.reconsent_required' AND client = :client AND at > now() - CAST(:window AS interval)
               AND data ->> 'reason' = :reason) AS died
""")
_PUT_ON: Final = text("""
    WITH braked AS (
        UPDATE client_status SET braked_at = now(), suspects_refreshed = 0
         WHERE client = :client AND braked_at IS NULL
        RETURNING client)
    INSERT INTO events (type, client) SELECT 'client.braked', client FROM braked
""")


async def apply_brake(connection: AsyncConnection, batch: Sequence[SealedSettlement]) -> Sequence[SealedSettlement]:
    """Return the batch with the deaths beyond each client's room turned into suspicions, and put brakes on.

    Args:
        connection: inside the transaction that will store the batch.
        batch: what is about to be stored.

    """
    deaths = [sealed for sealed in batch if sealed.if_braked is not None]
    if not deaths:
        return batch
    clients = await _clients(connection, deaths)
    braked: set[UUID] = set()
    for client in sorted(set(clients.values())):  # in one order everywhere, so that no two wait for each other
        dying = [sealed for sealed in deaths if clients.get(sealed.lease.grant_id) == client]
        room = await _room(connection, client)
        if len(dying) > room:
            await connection.execute(_PUT_ON, {"client": client})
            braked.update(sealed.lease.lease_id for sealed in dying[room:])
    return [_suspect(sealed) if sealed.lease.lease_id in braked else sealed for sealed in batch]


async def _clients(connection: AsyncConnection, deaths: Sequence[SealedSettlement]) -> dict[UUID, str]:
    rows = await connection.execute(_CLIENTS, {"ids": [sealed.lease.grant_id for sealed in deaths]})
    return {row.id: row.client for row in rows}


async def _room(connection: AsyncConnection, client: str) -> int:
    status = (await connection.execute(_LOCK, {"client": client})).one_or_none()
    if status is not None and status.braked_at is not None:
        return 0
    looked_for = {"client": client, "most": _COUNTED_AT_MOST, "window": WINDOW, "reason": Reason.INVALID_GRANT.value}
    counted = (await connection.execute(_COUNT, looked_for)).one()
    return room_for_deaths(grants=counted.grants, died_in_window=counted.died)


def _suspect(sealed: SealedSettlement) -> SealedSettlement:
    columns = {name: value for name, value in sealed.columns.items() if name != "fingerprint"}
    return replace(sealed, kind=MarkSuspect, columns={**columns, "rotate_at": sealed.if_braked}, if_braked=None)
