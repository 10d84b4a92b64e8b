"""Reading grants: for people, and for the database's clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Row, Select, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.domain.grant import GrantState
from worker.storage.tables import Grant

_NOW: Final = text("SELECT clock_timestamp()")


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantView:
    """A grant without its secrets."""

    id: UUID
    client: str
    subject: str
    state: GrantState
    state_reason: str | None
    state_since: datetime
    generation: int
    rotate_at: datetime | None
    access_expires_at: datetime | None
    refresh_expires_at: datetime | None
    rotated_at: datetime | None
    consented_at: datetime | None
    created_at: datetime
    scopes: tuple[str, ...] | None
    lost_scopes: tuple[str, ...] | None  #: what answers have taken away since its owner last consented
    account: str | None
    email: str | None
    strikes: int
    failures: int
    last_error: str | None
    last_error_code: str | None
    last_error_status: int | None
    last_error_at: datetime | None
    leased: bool


#: What a view is read from.
VIEWED: Final[tuple[ColumnElement[Any], ...]] = (
    *(column for column in Grant.__table__.columns if column.name in GrantView.__slots__),
    Grant.leased_until.is_not(None).label("leased"),
)


class Grants:
    """Reads grants."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def now(self) -> datetime:
        """Return the database's clock, by which everything is scheduled."""
        async with self._engine.connect() as connection:
            found: datetime = (await connection.execute(_NOW)).scalar_one()
            return found

    async def show(self, grant_id: UUID) -> GrantView | None:
        """Return one grant, or None where there is none of that id."""
        found = await self._views(select(*VIEWED).where(Grant.id == grant_id))
        return found[0] if found else None

    async def find(self, client: str, subject: str) -> GrantView | None:
        """Return the grant of a client and subject, or None where there is none."""
        found = await self._views(select(*VIEWED).where(Grant.client == client, Grant.subject == subject))
        return found[0] if found else None

    async def list(
        self, *, client: str | None, state: GrantState | None, after: tuple[str, str] | None, limit: int
    ) -> Sequence[GrantView]:
        """Return grants in the order of client and subject.

        Args:
            client: only this client's.
            state: only those in this state.
            after: client and subject of the last grant of the page before.
            limit: at most so many.

        """
        statement = select(*VIEWED).order_by(Grant.client, Grant.subject).limit(limit)
        if client is not None:
            statement = statement.where(Grant.client == client)
        if state is not None:
            statement = statement.where(Grant.state == state.value)
        if after is not None:
            statement = statement.where(tuple_(Grant.client, Grant.subject) > after)
        return await self._views(statement)

    async def _views(self, statement: Select[Any]) -> Sequence[GrantView]:
        async with self._engine.connect() as connection:
            return [view_of(row) for row in await connection.execute(statement)]


def view_of(row: Row[Any]) -> GrantView:
    """Return the view of a row that was selected by `VIEWED`."""
    fields = dict(row._mapping)  # noqa: SLF001 -- SQLAlchemy's public name for it
    fields.pop("looked_at", None)  # a search's own
    fields["state"] = GrantState(fields["state"])
    for name in ("scopes", "lost_scopes"):
        fields[name] = tuple(fields[name]) if fields[name] is not None else None
    return GrantView(**fields)
