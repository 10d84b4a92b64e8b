"""Reading mails, for people: what became of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Row, func, literal_column, select, tuple_
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.domain.reconsent import MailKind, MailState
from worker.storage.tables import ReconsentMail
from worker.storage.tables.clients import ClientStatusRow


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


#: What its owner has not got, and will not without somebody's help.
FAILED: Final = (MailState.REFUSED, MailState.BOUNCED, MailState.GIVEN_UP)


async def list_mails(
    engine: AsyncEngine,
    *,
    mail_id: UUID | None = None,
    client: str | None = None,
    state: MailState | None = None,
    grant_id: UUID | None = None,
    after: tuple[datetime, UUID] | None = None,
    limit: int,
) -> Sequence[MailView]:
    """Return mails in the order in which they were noted.

    Args:
        engine: the process's connections.
        mail_id: only this one.
        client: only this client's.
        state: only those that stand there.
        grant_id: only those about this grant.
        after: when the last one of the page before was noted, and its id.
        limit: at most so many.

    """
    statement = select(*_VIEWED).order_by(ReconsentMail.created_at, ReconsentMail.id).limit(limit)
    if mail_id is not None:
        statement = statement.where(ReconsentMail.id == mail_id)
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


async def newest_mails(
    engine: AsyncEngine,
    *,
    client: str | None,
    states: Sequence[MailState],
    before: tuple[datetime, UUID] | None,
    limit: int,
) -> Sequence[MailView]:
    """Return the mails that were noted last, newest first.

    Args:
        engine: the process's connections.
        client: only this client's.
        states: only those that stand there; none: all.
        before: when the last one of the page before was noted, and its id.
        limit: at most so many.

    """
    newest = (ReconsentMail.created_at.desc(), ReconsentMail.id.desc())
    statement = select(*_VIEWED).where(ReconsentMail.recipient != "").order_by(*newest).limit(limit)
    if states:
        # Written out, so that a partial index is known to hold all of them.
        statement = statement.where(ReconsentMail.state.in_([literal_column(f"'{state.value}'") for state in states]))
    if client is not None:
        statement = statement.where(ReconsentMail.client == client)
    if before is not None:
        statement = statement.where(tuple_(ReconsentMail.created_at, ReconsentMail.id) < before)
    async with engine.connect() as connection:
        return [_view(row) for row in await connection.execute(statement)]


async def count_waiting(engine: AsyncEngine, client: str | None) -> int:
    """Return how many mails wait to be sent and are due, of one client or of all."""
    statement = select(func.count()).select_from(ReconsentMail)
    statement = statement.where(ReconsentMail.state == literal_column("'waiting'"), ReconsentMail.due_at <= func.now())
    if client is not None:
        statement = statement.where(ReconsentMail.client == client)
    async with engine.connect() as connection:
        found: int = (await connection.execute(statement)).scalar_one()
        return found


async def held_clients(engine: AsyncEngine) -> frozenset[str]:
    """Return the clients whose brake is on: their mails wait until it is off."""
    statement = select(ClientStatusRow.client).where(ClientStatusRow.braked_at.is_not(None))
    async with engine.connect() as connection:
        return frozenset((await connection.execute(statement)).scalars())


def _view(row: Row[Any]) -> MailView:
    fields = dict(row._mapping)  # noqa: SLF001 -- SQLAlchemy's public name for it
    return MailView(**{**fields, "kind": MailKind(row.kind), "state": MailState(row.state)})
