"""The page "Grants": search, sort, page, all of it in the address; and what of a page is chosen to be mailed."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Final
from urllib.parse import urlencode
from uuid import UUID

from fastapi import Query
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, BeforeValidator, ConfigDict

from worker.domain.grant import GrantState
from worker.domain.roles import Role
from worker.storage.grant_counts import count_grants
from worker.storage.grant_search import Found, GrantSearch, Key, Order, Search, key_of
from worker.web.api.values import read_cursor, write_cursor
from worker.web.console.frame import TheConsole
from worker.web.page_route import Refused, page_router
from worker.web.words import REASON_NAMES

router = page_router()

#: Grants on a page.
PAGE: Final = 50
#: A text that is looked for, at most: as long as a subject may be.
_LONGEST_TEXT: Final = 255
_EMPTY: Final = BeforeValidator(lambda value: None if value == "" else value)


class Asked(BaseModel):
    """What an address asks for. What a form leaves empty is not asked for."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    q: Annotated[str | None, _EMPTY] = None
    client: Annotated[str | None, _EMPTY] = None
    state: Annotated[GrantState | None, _EMPTY] = None
    reason: Annotated[str | None, _EMPTY] = None
    sort: Annotated[str | None, _EMPTY] = None
    after: Annotated[str | None, _EMPTY] = None
    before: Annotated[str | None, _EMPTY] = None

    def search(self, only: str | None) -> Search:
        """Return what is looked for.

        Args:
            only: the one client that whoever asks may see; None: all.

        Raises:
            PageError: where the address is none that the console gives out.

        """
        text = (self.q or "").strip()[:_LONGEST_TEXT].replace("\x00", "")
        sort = self.sort or Order.SUBJECT.value
        try:
            order = Order(sort.removeprefix("-"))
            after, before = _key(order, self.after), _key(order, self.before)
        except ValueError:
            text = "Its address is none that the console gives out. Begin again from the list."
            raise Refused(HTTPStatus.BAD_REQUEST, "This page cannot be shown", text) from None
        return Search(
            text=text or None,
            client=only or self.client,
            state=self.state,
            reason=self.reason,
            order=order,
            descending=sort.startswith("-"),
            after=after,
            before=before,
            limit=PAGE,
        )

    def href(self, **changes: str | None) -> str:
        """Return the address of the list with something else asked for; of another page unless that is said."""
        asked = {**self.model_dump(mode="json"), "after": None, "before": None, **changes}
        chosen = {name: value for name, value in asked.items() if value}
        return f"/grants?{urlencode(chosen)}" if chosen else "/grants"

    def query(self) -> str:
        """Return what is looked for, without order and page, as the end of an address."""
        asked = self.model_dump(mode="json", include={"q", "client", "state", "reason"})
        return urlencode({name: value for name, value in asked.items() if value})


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A heading that sorts."""

    label: str
    href: str
    sorted: str  #: `aria-sort`: `ascending`, `descending` or `none`


@router.page("/grants", Role.READER)
async def list_grants(console: TheConsole, asked: Annotated[Asked, Query()]) -> HTMLResponse:
    """Show a page of grants."""
    search = asked.search(console.person.client)
    async with console.container.engine.connect() as connection:
        counts = await count_grants(connection)
    if search.order is Order.DUE and not search.is_refreshed:  # none of them is due at any time
        search = replace(search, order=Order.SINCE, after=None, before=None)
    if search.order is Order.SINCE and search.state is GrantState.ACTIVE:  # that order is for the others
        search = replace(search, order=Order.SUBJECT, after=None, before=None)
    found = await GrantSearch(console.container.engine).find(search, sorted(counts))
    return console.show(
        "grants.html",
        asked=asked,
        search=search,
        found=found,
        total=_total(search, counts),
        names=[name for name in sorted({*counts, *console.clients}) if console.person.sees(name)],
        states=list(GrantState),
        reasons=REASON_NAMES,
        columns=_columns(asked, search),
        pages=_pages(asked, search, found),
        sends=console.container.mails.requests.sends,
    )


def _key(order: Order, cursor: str | None) -> Key | None:
    if cursor is None:
        return None
    first, second = read_cursor(cursor)
    if order is Order.SUBJECT:
        return first, second
    at = datetime.fromisoformat(first)
    if at.tzinfo is None:
        raise ValueError(cursor)
    return at, UUID(second)


def _written(key: Key) -> str:
    first, second = key
    return write_cursor(first.isoformat() if isinstance(first, datetime) else first, str(second))


def _columns(asked: Asked, search: Search) -> Mapping[Order, Column]:
    labels = {Order.SUBJECT: "Grant", Order.SINCE: "State since", Order.DUE: "Next refresh"}
    columns = {}
    for order, label in labels.items():
        is_sorted = search.order is order
        # What changed last comes first when it is asked for the first time.
        descending = not search.descending if is_sorted else order is Order.SINCE
        direction = "none" if not is_sorted else "descending" if search.descending else "ascending"
        href = asked.href(sort=f"-{order.value}" if descending else order.value)
        columns[order] = Column(label=label, href=href, sorted=direction)
    return columns


def _pages(asked: Asked, search: Search, found: Found) -> Mapping[str, str | None]:
    pages: dict[str, str | None] = {"first": None, "before": None, "after": None}
    with contextlib.suppress(IndexError):
        first, last = key_of(search.order, found.grants[0]), key_of(search.order, found.grants[-1])
        if found.has_before and first is not None:
            pages["first"] = asked.href()
            pages["before"] = asked.href(before=_written(first))
        if found.has_after and last is not None:
            pages["after"] = asked.href(after=_written(last))
    return pages


def _total(search: Search, counts: Mapping[str, Mapping[GrantState, int]]) -> int | None:
    """Return how many there are in all, where that is known without counting."""
    if search.text is not None or search.reason is not None or search.order is not Order.SUBJECT:
        return None
    return sum(
        count
        for client, states in counts.items()
        for state, count in states.items()
        if search.client in {None, client} and search.state in {None, state}
    )
