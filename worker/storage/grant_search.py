"""Searching grants: filtered, sorted and paged by key, along indexes of columns that no rotation changes.

A page costs the same whatever the number of grants. A text is looked for at the beginning of subjects and mail
addresses, and as a whole account; of what begins so, a bounded number is looked at.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    cast,
    func,
    literal,
    literal_column,
    or_,
    select,
    text,
    true,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.types import DateTime, Text, TypeEngine, Uuid

from worker.domain.grant import ROTATED_STATES, GrantState
from worker.storage.grants import VIEWED, GrantView, view_of
from worker.storage.tables import Grant

#: Grants looked at whose subject or address begins so: some tens of milliseconds.
BEGINS_AT_MOST: Final = 1_000
#: Sorts behind everything that begins with what stands before it.
_BEHIND_ALL: Final = "\U0010ffff"
#: Plans are made for the values at hand: one that was made for all of them reads a million rows to find ten.
_OWN_PLAN: Final = text("SET LOCAL plan_cache_mode = force_custom_plan")


class Order(StrEnum):
    """What a list of grants is sorted by."""

    SUBJECT = "subject"  #: by client and subject
    SINCE = "since"  #: by how long they have been in their state: only those that are not active
    DUE = "due"  #: by when they are refreshed next: only those that are


#: A column of text, or one of an instant, and the second one that makes it unique.
Key = tuple[str, str] | tuple[datetime, UUID]


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What is looked for, and which page of it."""

    text: str | None = None  #: what a subject or address begins with, an account, or a grant's id
    client: str | None = None
    state: GrantState | None = None
    reason: str | None = None  #: `state_reason`
    order: Order = Order.SUBJECT
    descending: bool = False
    after: Key | None = None  #: the last grant of the page before
    before: Key | None = None  #: the first grant of the page behind
    limit: int = 50
    walks: bool = False  #: for a text: walk along all grants in their order, and leave none out

    @property
    def is_refreshed(self) -> bool:
        """Whether what is found may be due at all."""
        return self.state is None or self.state in ROTATED_STATES


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A page of grants, whether there is one before and behind it, and whether there was too much to look at."""

    grants: Sequence[GrantView]
    has_before: bool
    has_after: bool
    is_cut: bool  #: more begin with the text than were looked at
    now: datetime  #: the database's clock


class GrantSearch:
    """Searches grants."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def find(self, search: Search, clients: Sequence[str], *, begins_at_most: int = BEGINS_AT_MOST) -> Found:
        """Return a page of grants.

        Args:
            search: what is looked for.
            clients: the names of all clients that have grants.
            begins_at_most: grants looked at whose subject or address begins with the text.

        """
        one_more = replace(search, limit=search.limit + 1)
        async with self._engine.connect() as connection:
            await connection.execute(_OWN_PLAN)
            found = (await connection.execute(_page(one_more, clients, begins_at_most))).all()
            now: datetime = (await connection.execute(text("SELECT now()"))).scalar_one()
        rows = [view_of(row) for row in found]
        is_cut = any(row.looked_at >= begins_at_most for row in found[:1])
        has_more = len(rows) > search.limit
        rows = rows[: search.limit]
        if search.before is not None:
            return Found(grants=rows[::-1], has_before=has_more, has_after=True, is_cut=is_cut, now=now)
        return Found(grants=rows, has_before=search.after is not None, has_after=has_more, is_cut=is_cut, now=now)


def key_of(order: Order, grant: GrantView) -> Key | None:
    """Return where a grant stands in an order; None where it does not stand in it."""
    match order:
        case Order.SUBJECT:
            return grant.client, grant.subject
        case Order.SINCE:
            return grant.state_since, grant.id
        case Order.DUE:
            return (grant.rotate_at, grant.id) if grant.rotate_at is not None else None


def _keys(order: Order) -> tuple[InstrumentedAttribute[Any], InstrumentedAttribute[Any]]:
    match order:
        case Order.SUBJECT:
            return Grant.client, Grant.subject
        case Order.SINCE:
            return Grant.state_since, Grant.id
        case Order.DUE:
            return Grant.rotate_at, Grant.id


def _filters(search: Search) -> list[ColumnElement[bool]]:
    chosen: list[ColumnElement[bool]] = []
    if search.client is not None:
        chosen.append(Grant.client == search.client)
    if search.state is not None:
        # Written out, so that a partial index is known to hold all of them.
        chosen.append(Grant.state == literal_column(f"'{search.state.value}'"))
    if search.reason is not None:
        chosen.append(Grant.state_reason == search.reason)
    if search.order is Order.SINCE:
        chosen.append(Grant.state != literal_column("'active'"))
    return chosen


def _beginning(search: Search, clients: Sequence[str], at_most: int) -> Select[tuple[UUID]]:
    """Select the ids of grants whose subject or address begins with a text, or whose account or id it is."""
    parts = [
        select(Grant.id).where(*condition, *_filters(search)).limit(at_most) for condition in _begins(search, clients)
    ]
    every = union_all(*(part.subquery().select() for part in parts)).subquery()
    return select(every.c.id).distinct().limit(at_most)


def _begins(search: Search, clients: Sequence[str]) -> list[list[ColumnElement[bool]]]:
    """Return what holds for a grant that begins with a text: all of one of these."""
    wanted = search.text or ""
    begin, end = (func.lower(cast(literal(text), Text)) for text in (wanted, wanted + _BEHIND_ALL))
    begins: list[list[ColumnElement[bool]]] = []
    for column in (Grant.subject, Grant.email):
        lowered = func.lower(column)
        # The operators of text_pattern_ops: they compare letter by letter, whatever the database's collation.
        condition = lowered.op("~>=~")(begin) & lowered.op("~<~")(end)
        begins.append([condition, column.is_not(None)])
    # Along an index by client and account that there is anyway.
    names = cast(literal(list(clients), ARRAY(Text())), ARRAY(Text()))
    begins.append([Grant.client == func.any(names), Grant.account == wanted])
    with contextlib.suppress(ValueError):
        begins.append([Grant.id == UUID(wanted)])
    return begins


def _page(search: Search, clients: Sequence[str], begins_at_most: int) -> Select[Any]:
    first, second = _keys(search.order)
    backwards = search.before is not None
    is_descending = search.descending is not backwards
    conditions = _filters(search)
    key = search.before if backwards else search.after
    if key is not None:
        types: tuple[TypeEngine[Any], TypeEngine[Any]] = (DateTime(timezone=True), Uuid())
        if search.order is Order.SUBJECT:
            types = (Text(), Text())
        bound = tuple_(*(literal(value, kind) for value, kind in zip(key, types, strict=True)))
        conditions.append(tuple_(first, second) < bound if is_descending else tuple_(first, second) > bound)
    sorting = (first.desc(), second.desc()) if is_descending else (first, second)
    statement = select(*VIEWED, literal_column("0").label("looked_at")).order_by(*sorting).limit(search.limit)
    if search.text and search.walks:
        return statement.where(or_(*(and_(*condition) for condition in _begins(search, clients))), *conditions)
    if search.text:
        begins = _beginning(search, clients, begins_at_most).cte("begins").prefix_with("MATERIALIZED")
        looked_at = select(func.count()).select_from(begins).scalar_subquery().label("looked_at")
        statement = select(*VIEWED, looked_at).order_by(*sorting).limit(search.limit)
        due = [Grant.rotate_at.is_not(None)] if search.order is Order.DUE else []
        return statement.where(Grant.id.in_(select(begins.c.id)), *conditions, *due)
    if search.order is Order.DUE:
        return statement.where(Grant.id.in_(_due(search, clients, conditions, sorting)))
    return statement.where(*conditions)


def _due(
    search: Search, clients: Sequence[str], conditions: Sequence[ColumnElement[bool]], sorting: Sequence[Any]
) -> Select[tuple[UUID]]:
    """Select the first of each client along the claim's index, and the few that are under way."""
    names = [search.client] if search.client is not None else list(clients)
    each = (
        func.unnest(cast(literal(names, ARRAY(Text())), ARRAY(Text()))).table_valued("client").render_derived(name="c")
    )
    is_due = (*conditions, Grant.rotate_at.is_not(None))
    waiting = (
        select(Grant.id)
        .where(Grant.client == each.c.client, Grant.leased_until.is_(None), *is_due)
        .order_by(*sorting)
        .limit(search.limit)
        .lateral("waiting")
    )
    under_way = (
        select(Grant.id)
        .where(Grant.client == func.any(cast(literal(names, ARRAY(Text())), ARRAY(Text()))))
        .where(Grant.leased_until.is_not(None), *is_due)
        .order_by(*sorting)
        .limit(search.limit)
        .subquery("under_way")
    )
    both = union_all(select(waiting.c.id).select_from(each.join(waiting, true())), select(under_way.c.id)).subquery()
    return select(both.c.id)
