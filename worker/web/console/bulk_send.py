"""Asking for the mails of many owners: as many at once as a request has time for, and the browser sends for the rest.

Nothing is held between two of these requests, so no restart loses any of it: whoever begins again mails nobody twice.
"""

from __future__ import annotations

from typing import Annotated, Final
from uuid import UUID

from fastapi import Form
from fastapi.responses import Response

from worker.domain.audit import Act
from worker.domain.errors import ConfigurationError
from worker.domain.roles import Role
from worker.storage.mail_addressees import Candidate
from worker.usecases.ask_owners import Asked
from worker.web.admission import Notes, write_down_each
from worker.web.console.bulk_page import in_need, named, nobody_chosen, own
from worker.web.console.frame import Console, TheConsole, go_to
from worker.web.page_route import TheNotes, not_there, page_router

router = page_router()

#: Grants looked at in one request: some seconds' work, within the patience of any proxy.
AT_ONCE: Final = 2_000
#: Counts that a form carries from one request to the next: as long as what a page can show.
_MOST: Final = 10**12

Ids = Annotated[list[UUID] | None, Form(alias="id", max_length=1_000)]
Count = Annotated[int, Form(ge=0, le=_MOST)]


@router.act("/grants/reconsent", Role.OPERATOR, Act.RECONSENT_SENT)
async def send(
    console: TheConsole,
    notes: TheNotes,
    *,
    ids: Ids = None,
    chosen: Annotated[bool, Form()] = False,
    client: Annotated[str, Form()] = "",
    after_client: Annotated[str, Form()] = "",
    after_subject: Annotated[str, Form()] = "",
    count: Count = 0,
    left: Count = 0,
) -> Response:
    """Ask for the mails: about those that were chosen, or about all, part by part.

    Args:
        console: who asks.
        notes: for the audit log.
        ids: the grants that were chosen.
        chosen: whether some were to be chosen.
        client: of all, only this client's.
        after_client: with `after_subject`, where the part before has ended.
        after_subject: see there.
        count: grants of the parts before about which mails were asked for.
        left: grants of the parts before that were left out.

    """
    if not console.container.mails.requests.sends:
        notes.failed = True
        return go_to("/grants/reconsent", {"said": "no_mail_server"})
    if ids:
        return await _send_named(console, notes, ids)
    if chosen:
        raise nobody_chosen()
    wanted = notes.client = own(console, client or console.person.client)
    after = (after_client, after_subject) if after_client else None
    asked, left_out, last = await _send_part(console, notes, wanted, after)
    count, left = count + asked, left + left_out
    if last is None:
        return go_to("/grants/reconsent", {"said": "asked", "count": count, "left": left, "client": wanted})
    total = (await in_need(console, wanted)).total
    return console.show(
        "reconsent_progress.html",
        client=wanted,
        after=last,
        count=count,
        left=left,
        total=max(total, count + left),
    )


async def _send_named(console: Console, notes: Notes, ids: list[UUID]) -> Response:
    asked = await named(console, ids, dry_run=False)
    clients = {one.candidate.client for one in asked}
    # What the form says of a client is not written down: it may be another one's.
    client = notes.client = clients.pop() if len(clients) == 1 else console.person.client
    mailed = [(one.candidate.client, one.candidate.grant_id) for one in asked if one.why_not is None]
    notes.details |= {"grants": len(mailed), "left_out": len(asked) - len(mailed)}
    await write_down_each(console.request, console.container, Act.RECONSENT_SENT, console.person.caller, mailed)
    counts = {"count": len(mailed), "left": len(asked) - len(mailed)}
    return go_to("/grants/reconsent", {"said": "asked", **counts, "client": client})


async def _send_part(
    console: Console, notes: Notes, client: str | None, after: tuple[str, str] | None
) -> tuple[int, int, Candidate | None]:
    """Ask about one part; return about how many, how many were left out, and its last grant where more may follow."""
    reasons: list[Asked] = []
    notes.details |= {"grants": 0, "left_out": 0}
    try:
        async for page in console.container.mails.requests.ask_all(client, after=after):
            reasons += page
            asked = sum(one.why_not is None for one in reasons)
            # Page by page: whatever happens to the next one, these mails are asked for.
            notes.details |= {"grants": asked, "left_out": len(reasons) - asked}
            if len(reasons) >= AT_ONCE:
                return asked, len(reasons) - asked, page[-1].candidate
    except ConfigurationError:
        raise not_there("client") from None
    asked = sum(one.why_not is None for one in reasons)
    return asked, len(reasons) - asked, None
