"""Writing entries into the audit log: what was done is done, whether the database takes its entry or not."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from worker.domain.audit import Act, Actor, AuditEntry
from worker.logging import get_logger
from worker.storage.audit_log import AuditLog
from worker.storage.away import AWAY

log = get_logger("evergrant.audit")


async def write_entries(audit: AuditLog, *entries: AuditEntry) -> None:
    """Write entries; where the database is away they go to this process's log instead.

    Args:
        audit: the log.
        entries: what is to be written, all of it or none.

    """
    try:
        await audit.write(*entries)
    except AWAY as error:
        for entry in entries:
            log.error("audit_entry_not_stored", error=type(error).__name__, entry=str(entry))  # noqa: TRY400 -- all is said


async def write_down_each(audit: AuditLog, actor: Actor, act: Act, grants: Iterable[tuple[str, UUID]]) -> None:
    """Write an entry for each grant that one act was about.

    Args:
        audit: the log.
        actor: who did it, and from where.
        act: what was done.
        grants: each with its client.

    """
    entries = (AuditEntry(actor=actor, act=act, client=client, grant_id=grant_id) for client, grant_id in grants)
    await write_entries(audit, *entries)
