"""Mailing many owners at once: first who would get what and who not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Final
from uuid import UUID

from fastapi import Query
from fastapi.responses import HTMLResponse

from worker.domain.errors import ConfigurationError
from worker.domain.grant import GrantState
from worker.domain.reconsent import EXPLAINED, Asker, WhyNot
from worker.domain.roles import Role
from worker.storage.grant_counts import count_grants
from worker.usecases.ask_owners import Asked
from worker.web.console.frame import Console, TheConsole
from worker.web.console.said import read_said
from worker.web.page_route import Refused, page_router
from worker.web.pages import Link

router = page_router()

#: Grants that a preview looks at: some seconds' work. Sending looks at all of them.
PREVIEWED: Final = 2_000
#: Grants named for each address or reason; of the others it is said how many there are.
NAMED: Final = 20
#: They are not forgotten: they have a mail, or will.
_MAILED: Final = (WhyNot.UNDER_WAY, WhyNot.ASKED_BEFORE, WhyNot.COOLING_DOWN)

Ids = Annotated[list[UUID] | None, Query(alias="id", max_length=1_000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Grants with something in common: an address that one mail goes to, or a reason to leave them out."""

    name: str
    grants: Sequence[Asked]

    @property
    def held(self) -> int:
        """How many wait until their client's brake is off."""
        return sum(asked.candidate.braked for asked in self.grants if asked.why_not in {None, WhyNot.UNDER_WAY})


@dataclass(frozen=True, slots=True, kw_only=True)
class InNeed:
    """How many grants a mail to all owners is about."""

    dead: int  #: they need their owner
    ending: int  #: their consent ends soon

    @property
    def total(self) -> int:
        """How many there are in all."""
        return self.dead + self.ending


@router.page("/grants/reconsent", Role.OPERATOR)
async def preview(
    console: TheConsole,
    *,
    ids: Ids = None,
    chosen: Annotated[bool, Query()] = False,
    client: Annotated[str | None, Query()] = None,
    said: Annotated[str | None, Query()] = None,
    count: Annotated[int | None, Query()] = None,
    left: Annotated[int | None, Query()] = None,
) -> HTMLResponse:
    """Say who would get what; nothing is changed."""
    if chosen and not ids:
        raise nobody_chosen()
    wanted = client or console.person.client
    asked = await named(console, ids, dry_run=True) if ids else await _all(console, wanted)
    addressed = [one for one in asked if one.why_not is None]
    is_cut = not ids and len(asked) >= PREVIEWED
    dead = sum(one.candidate.addressee.state is GrantState.RECONSENT_REQUIRED for one in asked)
    return console.show(
        "reconsent_bulk.html",
        ids=ids or (),
        client=wanted,
        names=sorted(console.clients),
        looked_at=len(asked),
        in_need=await in_need(console, wanted) if is_cut else InNeed(dead=dead, ending=len(asked) - dead),
        is_cut=is_cut,
        mails=_grouped((one.candidate.addressee.recipient or "", one) for one in addressed),
        grants=len(addressed),
        left_out=_grouped(
            (EXPLAINED[one.why_not], one) for one in asked if one.why_not is not None and one.why_not not in _MAILED
        ),
        mailed_already=_grouped((EXPLAINED[one.why_not], one) for one in asked if one.why_not in _MAILED),
        named=NAMED,
        sends=console.container.mails.requests.sends,
        said=read_said(said, count=count, left=left),
        is_done=said == "asked",
        begun=asked[0].candidate.now if asked else None,
    )


async def in_need(console: Console, client: str | None) -> InNeed:
    """Count what a mail to all owners is about, of one client or of all that somebody sees."""
    async with console.container.engine.connect() as connection:
        counts = await count_grants(connection)
    dead = sum(
        states.get(GrantState.RECONSENT_REQUIRED, 0)
        for name, states in counts.items()
        if client in {None, name} and console.person.sees(name)
    )
    return InNeed(dead=dead, ending=await console.container.mails.requests.addressees.count_ending(client))


async def named(console: Console, ids: Sequence[UUID], *, dry_run: bool) -> list[Asked]:
    """Ask about grants by their ids, those that are the person's business."""
    requests = console.container.mails.requests
    chosen = list(dict.fromkeys(ids))
    if console.person.client is not None:  # another client's grants are not even there
        found = await requests.ask(chosen, Asker.OPERATOR_BY_NAME, dry_run=True)
        chosen = [one.candidate.grant_id for one in found if console.person.sees(one.candidate.client)]
    return await requests.ask(chosen, Asker.OPERATOR_BY_NAME, dry_run=dry_run)


async def _all(console: Console, client: str | None) -> list[Asked]:
    found: list[Asked] = []
    try:
        async for page in console.container.mails.requests.ask_all(own(console, client), dry_run=True):
            found += page
            if len(found) >= PREVIEWED:
                break
    except ConfigurationError as error:
        raise Refused(HTTPStatus.NOT_FOUND, "There is no such client", f"{error}.") from None
    return found


def own(console: Console, client: str | None) -> str | None:
    """Return a client that is the person's business.

    Raises:
        Refused: 403.

    """
    if client is not None and not console.person.sees(client):
        raise Refused(HTTPStatus.FORBIDDEN, "You may not do this", "Your role is for another client.")
    return client


def nobody_chosen() -> Refused:
    """Return the refusal of a choice that is empty: it must not stand for everybody."""
    text = "Nobody is mailed. Go back, and choose the grants whose owners are to be mailed."
    back = Link(label="Grants that need their owner", href="/grants?state=reconsent_required")
    return Refused(HTTPStatus.BAD_REQUEST, "No grant was chosen", text, links=(back,))


def _grouped(named: Iterable[tuple[str, Asked]]) -> list[Group]:
    groups: dict[str, list[Asked]] = {}
    for name, one in named:
        groups.setdefault(name, []).append(one)
    return [Group(name=name, grants=grants) for name, grants in groups.items()]
