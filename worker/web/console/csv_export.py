"""A list of grants as CSV (RFC 4180), streamed: a page after the other, so that nothing is held for a slow reader."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Final

from fastapi import Query
from fastapi.responses import StreamingResponse

from worker.domain.audit import Act
from worker.domain.roles import Role
from worker.storage.grant_counts import count_grants
from worker.storage.grant_search import GrantSearch, Order, Search, key_of
from worker.storage.grants import GrantView
from worker.web.console.frame import TheConsole
from worker.web.console.grant_list import Asked
from worker.web.page_route import TheNotes, page_router

router = page_router()

#: Grants read at once.
_AT_ONCE: Final = 1_000
#: Of a search by text so many are sorted in one go; for more, all grants are walked along in their order.
BEGINS_AT_MOST: Final = 20_000
_COLUMNS: Final = (
    "id",
    "client",
    "subject",
    "account",
    "email",
    "state",
    "state_reason",
    "state_since",
    "generation",
    "rotate_at",
    "access_expires_at",
    "refresh_expires_at",
    "rotated_at",
    "consented_at",
    "created_at",
    "last_error",
    "last_error_at",
)
#: With one of these a spreadsheet takes a cell for a formula: https://owasp.org/www-community/attacks/CSV_Injection.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
#: Where a comma is the decimal sign, spreadsheets end a cell at a semicolon instead, and know no quotes within one.
_ANOTHER_CELL: Final = re.compile(r"""([;\t\r\n])(?=["\s]*[=+\-@])""")


@router.page("/grants.csv", Role.READER, act=Act.GRANTS_EXPORTED)
async def export(console: TheConsole, notes: TheNotes, asked: Annotated[Asked, Query()]) -> StreamingResponse:
    """Give all grants that are looked for, in the order of client and subject."""
    search = asked.search(console.person.client)
    notes.client = search.client
    # Not the text: it may be somebody's address, and the log forgets nothing for a year.
    asked_for = {"state": search.state, "reason": search.reason, "by_text": search.text is not None}
    notes.details |= {name: value for name, value in asked_for.items() if value}
    search = replace(search, order=Order.SUBJECT, descending=False, after=None, before=None, limit=_AT_ONCE)
    async with console.container.engine.connect() as connection:
        clients = sorted(await count_grants(connection))
    return StreamingResponse(
        csv_lines(GrantSearch(console.container.engine), search, clients),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="grants.csv"'},
    )


def safe(cell: str) -> str:
    """Return a cell that no spreadsheet takes for a formula, nor what it may take for another cell within."""
    kept = _ANOTHER_CELL.sub(r"\1'", cell)
    return f"'{kept}" if kept.startswith(_FORMULA) else kept


async def csv_lines(
    grants: GrantSearch, search: Search, clients: Sequence[str], *, begins_at_most: int = BEGINS_AT_MOST
) -> AsyncIterator[str]:
    """Give all of what is looked for, the heading first.

    Args:
        grants: where it is looked for.
        search: what is looked for, by client and subject; its limit is how many are read at once.
        clients: the names of all clients that have grants.
        begins_at_most: where fewer begin with the text, they are found by it and sorted in one go.

    """
    yield _written([_COLUMNS])
    if search.text is not None:
        few = await grants.find(replace(search, limit=begins_at_most), clients, begins_at_most=begins_at_most)
        if not few.is_cut:
            yield _written(_row(grant) for grant in few.grants)
            return
        search = replace(search, walks=True)
    while True:
        found = await grants.find(search, clients)
        yield _written(_row(grant) for grant in found.grants)
        if not found.has_after:
            return
        search = replace(search, after=key_of(Order.SUBJECT, found.grants[-1]))


def _row(grant: GrantView) -> list[str]:
    return [_cell(getattr(grant, name)) for name in _COLUMNS]


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case datetime():
            return value.isoformat()
        case _:
            return safe(str(value))


def _written(rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()
