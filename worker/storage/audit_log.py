"""The audit log: rows are added, read, and pruned by age through one function; a trigger refuses everything else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.domain.audit import Act, ActOutcome, AuditEntry
from worker.domain.roles import CallerKind, Role
from worker.storage.arrays import array_literal
from worker.storage.tables import NO_TOKEN_GIVEN


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


# However many entries, one statement: those of a second's access tokens are some hundreds.
_WRITE: Final = text("""
    INSERT INTO audit_log
           (kind, actor_id, actor, role, address, act, outcome, client, grant_id, subject, count, details)
    SELECT one.kind, one.actor_id, one.actor, one.role, one.address, one.act, one.outcome,
           coalesce(one.client, grants.client), one.grant_id, grants.subject, one.count, CAST(one.details AS jsonb)
      FROM unnest(CAST(:kind AS text[]), CAST(:actor_id AS uuid[]), CAST(:actor AS text[]), CAST(:role AS text[]),
                  CAST(:address AS text[]), CAST(:act AS text[]), CAST(:outcome AS text[]), CAST(:client AS text[]),
                  CAST(:grant_id AS uuid[]), CAST(:count AS bigint[]), CAST(:details AS text[]))
           WITH ORDINALITY
           AS one (kind, actor_id, actor, role, address, act, outcome, client, grant_id, count, details, place)
      LEFT JOIN grants ON grants.id = one.grant_id
     ORDER BY one.place
""")
_SHOWN: Final = "id, at, kind, actor_id, actor, role, address, act, outcome, client, grant_id, subject, count, details"
# Only what is asked for stands in the statement: then an index is known to hold all of it.
_WANTED: Final[Mapping[str, str]] = {
    "client": "client = :client",
    "grant_id": "grant_id = CAST(:grant_id AS uuid)",
    "act": "act = :act",
    "actor": "actor = :actor",
    "before": "id < CAST(:before AS bigint)",
    "earlier": "at < CAST(:earlier AS timestamptz)",
}


class AuditLog:
    """Adds entries to the log and reads them."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def write(self, *entries: AuditEntry) -> None:
        """Add entries, all of them in one transaction."""
        async with self._engine.begin() as connection:
            await connection.execute(_WRITE, _columns(entries))

    async def list(
        self,
        *,
        client: str | None = None,
        grant_id: UUID | None = None,
        act: Act | None = None,
        actor: str | None = None,
        before: int | None = None,
        earlier: datetime | None = None,
        tokens: bool = True,
        limit: int,
    ) -> Sequence[AuditLine]:
        """Return entries, the newest first, those before an id where one is given.

        Args:
            client: only what was done to this client or its grants.
            grant_id: only what was done to this grant.
            act: only acts of this kind.
            actor: only what somebody of this name did.
            before: the id of the last entry of the page before.
            earlier: only what was done before this instant.
            tokens: with the access tokens that were given out, which may be millions; those asked for by `act` are
                there anyway.
            limit: so many at most.

        """
        wanted = {
            "client": client,
            "grant_id": grant_id,
            "act": act,
            "actor": actor,
            "before": before,
            "earlier": earlier,
        }
        given = {name: value for name, value in wanted.items() if value is not None}
        conditions = [_WANTED[name] for name in given]
        if act is not Act.ACCESS_TOKEN_GIVEN and (act is not None or not tokens):
            conditions.append(NO_TOKEN_GIVEN)  # in words that an index knows, even where the act says so already
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        statement = text(f"SELECT {_SHOWN} FROM audit_log {where} ORDER BY id DESC LIMIT :limit")  # noqa: S608 -- constants
        async with self._engine.connect() as connection:
            rows = (await connection.execute(statement, {**given, "limit": limit})).all()
        return [_line(row._mapping) for row in rows]  # noqa: SLF001 -- SQLAlchemy's public name


def _columns(entries: Sequence[AuditEntry]) -> dict[str, str]:
    actors = [entry.actor for entry in entries]
    return {
        "kind": array_literal("text", (actor.kind.value for actor in actors)),
        "actor_id": array_literal("uuid", (actor.id for actor in actors)),
        "actor": array_literal("text", (actor.name for actor in actors)),
        "role": array_literal("text", (actor.role.value if actor.role is not None else None for actor in actors)),
        "address": array_literal("text", (actor.address for actor in actors)),
        "act": array_literal("text", (entry.act.value for entry in entries)),
        "outcome": array_literal("text", (entry.outcome.value for entry in entries)),
        "client": array_literal("text", (entry.client for entry in entries)),
        "grant_id": array_literal("uuid", (entry.grant_id for entry in entries)),
        "count": array_literal("bigint", (entry.count for entry in entries)),
        "details": array_literal("jsonb", (json.dumps(dict(entry.details)) for entry in entries)),
    }


def _line(row: Any) -> AuditLine:  # noqa: ANN401 -- SQLAlchemy's mapping of a textual statement
    role = Role(row["role"]) if row["role"] is not None else None
    return AuditLine(
        **{**row, "kind": CallerKind(row["kind"]), "role": role, "outcome": ActOutcome(row["outcome"])},
    )
