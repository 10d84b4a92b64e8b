"""The audit log: rows are added, read, and pruned by age through one function; a trigger refuses everything else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.sql.expression import bindparam

from worker.domain.audit import Act, ActOutcome, AuditEntry
from worker.domain.roles import CallerKind, Role


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditLine:
    """One entry as it stands in the log."""

    id: int
    at: datetime
    kind: CallerKind
    actor_id: UUID | None
    actor: str | None
    role: Role | None
    address: str | None
    act: str
    outcome: ActOutcome
    client: str | None
    grant_id: UUID | None
    subject: str | None
    count: int
    details: dict[str, Any]


_WRITE: Final = text("""
    INSERT INTO audit_log
           (kind, actor_id, actor, role, address, act, outcome, client, grant_id, subject, count, details)
    SELECT :kind, CAST(:actor_id AS uuid), :actor, :role, :address, :act, :outcome,
           coalesce(:client, grants.client), CAST(:grant_id AS uuid), grants.subject, :count, :details
      FROM (SELECT 1) AS one LEFT JOIN grants ON grants.id = CAST(:grant_id AS uuid)
""").bindparams(bindparam("details", type_=JSONB))
_LIST: Final = text("""
    SELECT id, at, kind, actor_id, actor, role, address, act, outcome, client, grant_id, subject, count, details
      FROM audit_log
     WHERE (CAST(:before AS bigint) IS NULL OR id < CAST(:before AS bigint))
       AND (CAST(:client AS text) IS NULL OR client = CAST(:client AS text))
       AND (CAST(:grant_id AS uuid) IS NULL OR grant_id = CAST(:grant_id AS uuid))
       AND (CAST(:act AS text) IS NULL OR act = CAST(:act AS text))
       AND (CAST(:actor AS text) IS NULL OR actor = CAST(:actor AS text))
     ORDER BY id DESC LIMIT :limit
""")


class AuditLog:
    """Adds entries to the log and reads them."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def write(self, *entries: AuditEntry) -> None:
        """Add entries, all of them in one transaction."""
        async with self._engine.begin() as connection:
            await connection.execute(_WRITE, [_columns(entry) for entry in entries])

    async def list(
        self,
        *,
        client: str | None = None,
        grant_id: UUID | None = None,
        act: Act | None = None,
        actor: str | None = None,
        before: int | None = None,
        limit: int,
    ) -> Sequence[AuditLine]:
        """Return entries, the newest first, those before an id where one is given.

        Args:
            client: only what was done to this client or its grants.
            grant_id: only what was done to this grant.
            act: only acts of this kind.
            actor: only what somebody of this name did.
            before: the id of the last entry of the page before.
            limit: so many at most.

        """
        wanted = {"client": client, "grant_id": grant_id, "act": act, "actor": actor, "before": before, "limit": limit}
        async with self._engine.connect() as connection:
            rows = (await connection.execute(_LIST, wanted)).all()
        return [_line(row._mapping) for row in rows]  # noqa: SLF001 -- SQLAlchemy's public name


def _columns(entry: AuditEntry) -> dict[str, object]:
    actor = entry.actor
    return {
        "kind": actor.kind.value,
        "actor_id": actor.id,
        "actor": actor.name,
        "role": actor.role.value if actor.role is not None else None,
        "address": actor.address,
        "act": entry.act.value,
        "outcome": entry.outcome.value,
        "client": entry.client,
        "grant_id": entry.grant_id,
        "count": entry.count,
        "details": dict(entry.details),
    }


def _line(row: Any) -> AuditLine:  # noqa: ANN401 -- SQLAlchemy's mapping of a textual statement
    role = Role(row["role"]) if row["role"] is not None else None
    return AuditLine(
        **{**row, "kind": CallerKind(row["kind"]), "role": role, "outcome": ActOutcome(row["outcome"])},
    )
