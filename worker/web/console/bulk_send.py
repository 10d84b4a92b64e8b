"""Asking for the mails of many owners: as many at once as a request has time for, and the browser sends for the rest.

Nothing is held between two of these requests, so no restart loses any of it: whoever begins again mails nobody twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

from fastapi import Form
from fastapi.responses import Response
from pydantic import AwareDatetime, BeforeValidator

from worker.audit_entries import write_down_each
from worker.domain.audit import Act, Actor
from worker.domain.errors import ConfigurationError
from worker.domain.roles import Role
from worker.storage.mail_addressees import Candidate
from worker.usecases.ask_owners import Asked
from worker.web.admission import Notes, address_of
from worker.web.console.bulk_page import in_need, named, nobody_chosen, own
from worker.web.console.frame import Console, TheConsole, go_to
from worker.web.page_route import TheNotes, not_there, page_router

router = page_router()

#: Grants looked at in one request: some seconds' work, within the patience of any proxy.
AT_ONCE: Final = 2_000
#: Grants that were chosen and are named in an address: a page full of them, within what proxies let through.
IN_AN_ADDRESS: Final = 100
#: Counts that a form carries from one request to the next: as long as what a page can show.
_MOST: Final = 10**12

Ids = Annotated[list[UUID] | None, Form(alias="id", max_length=1_000)]
Count = Annotated[int, Form(ge=0, le=_MOST)]
Begun = Annotated[AwareDatetime | None, BeforeValidator(lambda value: value or None), Form()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What came of one request."""

    asked: int  #: grants about which mails were asked for
    left: int  #: grants that were left out
    begun: datetime | None  #: when the work began that this is a part of
    last: Candidate | None = None  #: the last grant, where more may follow


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
    begun: Begun = None,
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
        begun: when the preview was looked at. Whoever was asked about since then is counted as asked about: a page that
            is loaded again says the same again.

    """
    if not console.container.mails.requests.sends:
        notes.failed = True
        return go_to("/grants/reconsent", {"said": "no_mail_server"})
    if ids:
        return await _send_named(console, notes, ids, begun)
    if chosen:
        raise nobody_chosen()
    wanted = notes.client = own(console, client or console.person.client)
    after = (after_client, after_subject) if after_client else None
    part = await _send_part(console, notes, wanted, after, begun)
    count, left = count + part.asked, left + part.left
    if part.last is None:
        return _done({"count": count, "left": left, "client": wanted})
    total = (await in_need(console, wanted)).total
    return console.show(
        "reconsent_progress.html",
        client=wanted,
        after=part.last,
        begun=part.begun,
        count=count,
        left=left,
        total=max(total, count + left),
    )


async def _send_named(console: Console, notes: Notes, ids: list[UUID], begun: datetime | None) -> Response:
    asked = await named(console, ids, dry_run=False)
    clients = {one.candidate.client for one in asked}
    # What the form says of a client is not written down: it may be another one's.
    client = notes.client = clients.pop() if len(clients) == 1 else console.person.client
    mailed = [one for one in asked if one.why_not is None]
    notes.details |= {"grants": len(mailed), "left_out": len(asked) - len(mailed)}
    await _write_down(console, mailed)
    part = _counted(asked, begun)
    return _done({"count": part.asked, "left": part.left, "client": client}, ids)


def _done(values: Mapping[str, str | int | None], ids: Sequence[UUID] = ()) -> Response:
    """Return the way to the page that says what came of it, of those that were chosen where an address holds them."""
    query: list[tuple[str, str | int]] = [("said", "asked")]
    query += [(name, value) for name, value in values.items() if value is not None]
    query += [("id", str(grant_id)) for grant_id in ids] if len(ids) <= IN_AN_ADDRESS else []
    return go_to("/grants/reconsent", query)


async def _send_part(
    console: Console, notes: Notes, client: str | None, after: tuple[str, str] | None, begun: datetime | None
) -> Part:
    """Ask about one part."""
    looked_at: list[Asked] = []
    asked = 0
    notes.details |= {"grants": 0, "left_out": 0}
    try:
        async for page in console.container.mails.requests.ask_all(client, after=after):
            looked_at += page
            mailed = [one for one in page if one.why_not is None]
            asked += len(mailed)
            # Page by page: whatever happens to the next one, these mails are asked for.
            notes.details |= {"grants": asked, "left_out": len(looked_at) - asked}
            await _write_down(console, mailed)
            if len(looked_at) >= AT_ONCE:
                return replace(_counted(looked_at, begun), last=page[-1].candidate)
    except ConfigurationError:
        raise not_there("client") from None
    return _counted(looked_at, begun)


async def _write_down(console: Console, mailed: Sequence[Asked]) -> None:
    """Write into the audit log which grants mails were asked for about, each in an entry of its own."""
    actor = Actor.of(console.person.caller, address_of(console.request, console.container))
    grants = [(one.candidate.client, one.candidate.grant_id) for one in mailed]
    await write_down_each(console.container.audit, actor, Act.RECONSENT_SENT, grants)


def _counted(looked_at: Sequence[Asked], begun: datetime | None) -> Part:
    since = begun or next((one.candidate.now for one in looked_at), None)
    asked = sum(one.was_asked_since(since) for one in looked_at) if since is not None else 0
    return Part(asked=asked, left=len(looked_at) - asked, begun=since)
