"""The page "Mails": what waits, what was sent, what failed and why; and sending one again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Final
from uuid import UUID

from fastapi import Query
from fastapi.responses import HTMLResponse, Response
from pydantic import BeforeValidator

from worker.domain.audit import Act
from worker.domain.reconsent import Asker, MailState
from worker.domain.roles import Role
from worker.storage.mail_list import FAILED, MailView, count_waiting, held_clients, list_mails, newest_mails
from worker.web.api.values import read_cursor, write_cursor
from worker.web.console.frame import TheConsole, go_to
from worker.web.console.said import read_said
from worker.web.page_route import Refused, TheNotes, not_there, page_router

router = page_router()

#: Mails on a page.
PAGE: Final = 50
_TABS: Final[Mapping[str, tuple[str, tuple[MailState, ...]]]] = {
    "": ("All", ()),
    "waiting": ("Waiting", (MailState.WAITING, MailState.SENDING)),
    "failed": ("Failed", FAILED),
    "sent": ("Sent", (MailState.SENT,)),
}
_Empty = BeforeValidator(lambda value: None if value == "" else value)


@router.page("/mails", Role.READER)
async def show_mails(
    console: TheConsole,
    *,
    show: Annotated[str, Query()] = "",
    client: Annotated[str | None, _Empty, Query()] = None,
    after: Annotated[str | None, _Empty, Query()] = None,
    said: Annotated[str | None, Query()] = None,
    why: Annotated[str | None, Query()] = None,
) -> HTMLResponse:
    """Show mails, the newest first."""
    label, states = _TABS.get(show, _TABS[""])
    wanted = console.person.client or client
    engine = console.container.engine
    found = await newest_mails(engine, client=wanted, states=states, before=_key(after), limit=PAGE + 1)
    mails = found[:PAGE]
    last = mails[-1] if len(found) > PAGE else None
    return console.show(
        "mails.html",
        mails=mails,
        tabs=[(name, tab[0]) for name, tab in _TABS.items()],
        chosen=show if show in _TABS else "",
        label=label,
        client=client,
        names=sorted(console.clients),
        next_page=_written(last) if last is not None else None,
        is_first=after is None,
        waiting=await count_waiting(engine, wanted),
        held=await held_clients(engine),
        failed=FAILED,
        now=await console.container.grants.now(),
        sends=console.container.mails.requests.sends,
        said=read_said(said, why),
    )


@router.act("/mails/{mail_id}/resend", Role.OPERATOR, Act.MAIL_RESENT)
async def resend(console: TheConsole, notes: TheNotes, mail_id: UUID) -> Response:
    """Send the owner of a mail's grant a new one."""
    container = console.container
    found = await list_mails(container.engine, mail_id=mail_id, limit=1)
    if not found or not console.person.sees(found[0].client):
        raise not_there("mail")
    notes.grant_id = found[0].grant_id
    if not container.mails.requests.sends:
        notes.failed = True
        return go_to("/mails", {"said": "no_mail_server"})
    asked = await container.mails.requests.ask([found[0].grant_id], Asker.OPERATOR_BY_NAME)
    if not asked:
        raise not_there("grant")
    why = asked[0].why_not
    notes.failed = why is not None
    return go_to("/mails", {"said": "mailed"} if why is None else {"said": "not_mailed", "why": why.value})


def _key(cursor: str | None) -> tuple[datetime, UUID] | None:
    if cursor is None:
        return None
    try:
        at, mail_id = read_cursor(cursor)
        return datetime.fromisoformat(at), UUID(mail_id)
    except ValueError:
        text = "Its address is none that the console gives out. Begin again from the list."
        raise Refused(HTTPStatus.BAD_REQUEST, "This page cannot be shown", text) from None


def _written(mail: MailView) -> str:
    return write_cursor(mail.created_at.isoformat(), str(mail.id))
