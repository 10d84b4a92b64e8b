"""Reading mails, for people: what became of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Row, select, tuple_
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.domain.reconsent import MailKind, MailState
from worker.storage.tables import ReconsentMail


@dataclass(frozen=True, slots=True, kw_only=True)
class MailView:
    """A mail as people see it."""

    id: UUID
    grant_id: UUID
    client: str
    subject: str
    kind: MailKind
    number: int
    recipient: str
    state: MailState
    due_at: datetime
    sent_at: datetime | None
    attempts: int
    doubts: int
    last_error: str | None
    last_error_status: int | None
    link_used_at: datetime | None
    message_id: UUID | None
    created_at: datetime


_VIEWED: Final[tuple[ColumnElement[Any], ...]] = tuple(
    column for column in ReconsentMail.__table__.columns if column.name in MailView.__slots__
)


async def list_mails(
    engine: AsyncEngine,
    *,
    client: str | None = None,
    state: MailState | None = None,
    grant_id: UUID | None = None,
    after: tuple[datetime, UUID] | None = None,
    limit: int,
) -> Sequence[MailView]:
    """Return mails in the order in which they were noted.

    Args:
        engine: the process's connections.
        client: only this client's.
        state: only those that stand there.
        grant_id: only those about this grant.
        after: when the last one of the page before was noted, and its id.
        limit: at most so many.

    """
    statement = select(*_VIEWED).order_by(ReconsentMail.created_at, ReconsentMail.id).limit(limit)
    if client is not None:
        statement = statement.where(ReconsentMail.client == client)
    if state is not None:
        statement = statement.where(ReconsentMail.state == state.value)
    if grant_id is not None:
        statement = statement.where(ReconsentMail.grant_id == grant_id)
    if after is not None:
        statement = statement.where(tuple_(ReconsentMail.created_at, ReconsentMail.id) > after)
    async with engine.connect() as connection:
        return [_view(row) for row in await connection.execute(statement)]


def _view(row: Row[Any]) -> MailView:
    fields = dict(row._mapping)  # noqa: SLF001 -- SQLAlchemy's public name for it
    return MailView(**{**fields, "kind": MailKind(row.kind), "state": MailState(row.state)})
