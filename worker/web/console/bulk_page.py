"""Mailing many owners at once: first who would get what and who not, then the mails."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Final
from uuid import UUID

from fastapi import Form, Query
from fastapi.responses import HTMLResponse, Response

from worker.domain.audit import Act
from worker.domain.errors import ConfigurationError
from worker.domain.grant import GrantState
from worker.domain.reconsent import EXPLAINED, Asker, WhyNot
from worker.domain.roles import Role
from worker.storage.grant_counts import count_grants
from worker.usecases.ask_owners import Asked
from worker.web.console.frame import Console, TheConsole, go_to
from worker.web.console.said import read_said
from worker.web.page_route import Refused, TheNotes, page_router

router = page_router()

#: Grants that a preview looks at: some seconds' work. Sending looks at all of them.
PREVIEWED: Final = 2_000
#: Grants named for each address or reason; of the others it is said how many there are.
NAMED: Final = 20

Ids = Annotated[list[UUID] | None, Query(alias="id", max_length=1_000)]
IdsOfForm = Annotated[list[UUID] | None, Form(alias="id", max_length=1_000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Grants with something in common: an address that one mail goes to, or a reason to leave them out."""

    name: str
    grants: Sequence[Asked]

    @property
    def held(self) -> int:
        """How many wait until their client's brake is off."""
        return sum(asked.candidate.braked for asked in self.grants)


@router.page("/grants/reconsent", Role.OPERATOR)
async def preview(
    console: TheConsole,
    *,
    ids: Ids = None,
    client: Annotated[str | None, Query()] = None,
    said: Annotated[str | None, Query()] = None,
    count: Annotated[int | None, Query()] = None,
    left: Annotated[int | None, Query()] = None,
) -> HTMLResponse:
    """Say who would get what; nothing is changed."""
    wanted = client or console.person.client
    asked = await _named(console, ids, dry_run=True) if ids else await _all(console, wanted)
    mailed = [one for one in asked if one.why_not is None]
    async with console.container.engine.connect() as connection:
        counts = await count_grants(connection)
    needing = sum(
        states.get(GrantState.RECONSENT_REQUIRED, 0)
        for name, states in counts.items()
        if wanted in {None, name} and console.person.sees(name)
    )
    return console.show(
        "reconsent_bulk.html",
        ids=ids or (),
        client=wanted,
        names=sorted(console.clients),
        looked_at=len(asked),
        needing=needing,
        is_cut=not ids and len(asked) >= PREVIEWED,
        mails=_grouped((one.candidate.addressee.recipient or "", one) for one in mailed),
        grants=len(mailed),
        left_out=_grouped((EXPLAINED[one.why_not], one) for one in asked if one.why_not is not None),
        named=NAMED,
        sends=console.container.mails.requests.sends,
        said=read_said(said, count=count, left=left),
    )


@router.act("/grants/reconsent", Role.OPERATOR, Act.RECONSENT_SENT)
async def send(
    console: TheConsole, notes: TheNotes, ids: IdsOfForm = None, client: Annotated[str, Form()] = ""
) -> Response:
    """Ask for the mails."""
    requests = console.container.mails.requests
    wanted = client or console.person.client
    notes.client = wanted
    if not requests.sends:
        notes.failed = True
        return go_to("/grants/reconsent", {"said": "no_mail_server"})
    reasons: list[WhyNot | None] = []
    if ids:
        reasons += [one.why_not for one in await _named(console, ids, dry_run=False)]
    else:
        try:
            async for page in requests.ask_all(_own(console, wanted)):
                reasons += [one.why_not for one in page]
        except ConfigurationError as error:
            raise Refused(HTTPStatus.NOT_FOUND, "There is no such client", f"{error}.") from None
    count = sum(reason is None for reason in reasons)
    notes.details |= {"grants": count, "left_out": len(reasons) - count}
    return go_to("/grants/reconsent", {"said": "asked", "count": count, "left": len(reasons) - count, "client": wanted})


async def _named(console: Console, ids: Sequence[UUID], *, dry_run: bool) -> list[Asked]:
    requests = console.container.mails.requests
    chosen = list(dict.fromkeys(ids))
    if console.person.client is not None:  # another client's grants are not even there
        found = await requests.ask(chosen, Asker.OPERATOR_BY_NAME, dry_run=True)
        chosen = [one.candidate.grant_id for one in found if console.person.sees(one.candidate.client)]
    return await requests.ask(chosen, Asker.OPERATOR_BY_NAME, dry_run=dry_run)


async def _all(console: Console, client: str | None) -> list[Asked]:
    found: list[Asked] = []
    try:
        async for page in console.container.mails.requests.ask_all(_own(console, client), dry_run=True):
            found += page
            if len(found) >= PREVIEWED:
                break
    except ConfigurationError as error:
        raise Refused(HTTPStatus.NOT_FOUND, "There is no such client", f"{error}.") from None
    return found


def _own(console: Console, client: str | None) -> str | None:
    if client is not None and not console.person.sees(client):
        raise Refused(HTTPStatus.FORBIDDEN, "You may not do this", "Your role is for another client.")
    return client


def _grouped(named: Iterable[tuple[str, Asked]]) -> list[Group]:
    groups: dict[str, list[Asked]] = {}
    for name, one in named:
        groups.setdefault(name, []).append(one)
    return [Group(name=name, grants=grants) for name, grants in groups.items()]
