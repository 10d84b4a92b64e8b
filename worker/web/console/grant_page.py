"""The page of one grant: how it stands and what to do, its schedule, its provider's facts, and its life."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

from fastapi import Query
from fastapi.responses import HTMLResponse
from pydantic import AwareDatetime

from worker.domain.audit import Act
from worker.domain.facts import DEFAULT_STRIKES
from worker.domain.grant import ROTATED_STATES, GrantState
from worker.domain.reconsent import Asker
from worker.domain.roles import Role
from worker.oauth.client import Client
from worker.storage.grant_history import read_history
from worker.storage.grants import GrantView
from worker.storage.mail_addressees import Candidate
from worker.usecases.ask_owners import Asked
from worker.web.console.advice import Surroundings, standing
from worker.web.console.facts import provider_facts
from worker.web.console.frame import TheConsole
from worker.web.console.said import read_said
from worker.web.console.timeline import timeline
from worker.web.page_route import page_router

router = page_router()

#: Entries of a grant's life that are shown at once.
_SHOWN: Final = 40


@router.page("/grants/{grant_id}", Role.READER)
async def show_grant(
    console: TheConsole,
    grant_id: UUID,
    *,
    before: Annotated[AwareDatetime | None, Query()] = None,
    said: Annotated[str | None, Query()] = None,
    why: Annotated[str | None, Query()] = None,
) -> HTMLResponse:
    """Show one grant."""
    container = console.container
    grant = await console.grant(grant_id)
    client = container.configuration.registry.clients.get(grant.client)
    history = await read_history(container.engine, grant_id, before=before, limit=_SHOWN)
    audited = await container.audit.list(grant_id=grant_id, earlier=before, tokens=False, limit=_SHOWN)
    given = await container.audit.list(grant_id=grant_id, act=Act.ACCESS_TOKEN_GIVEN, limit=1)
    asked = await container.mails.requests.ask([grant_id], Asker.OPERATOR_BY_NAME, dry_run=True)
    mail = asked[0] if asked else None
    addressee = mail.candidate.addressee if mail is not None else None
    around = Surroundings(
        provider=_name(client),
        hold=await container.statuses.hold(grant.client),
        why_no_mail=mail.why_not if mail is not None else None,
        mailed_at=addressee.last_sent_at if addressee is not None and addressee.sent else None,
        ends_at=_ends_at(mail.candidate) if mail is not None else None,
        strikes=client.provider.facts.strikes if client is not None else DEFAULT_STRIKES,
        sends=container.mails.requests.sends,
        now=history.now,
    )
    return console.show(
        "grant.html",
        grant=grant,
        client=client,
        provider=around.provider,
        standing=standing(grant, around),
        acts=_acts(grant, mail, sends=container.mails.requests.sends) if console.person.may(Role.OPERATOR) else (),
        recipient=addressee.recipient if addressee is not None else None,
        facts=provider_facts(client) if client is not None else (),
        timeline=timeline(grant, history, audited, before=before, limit=_SHOWN),
        given=given[0] if given else None,
        before=before,
        now=history.now,
        said=read_said(said, why),
    )


def _name(client: Client | None) -> str | None:
    return (client.provider.display_name or client.provider.name) if client is not None else None


def _ends_at(candidate: Candidate) -> datetime | None:
    """Return when a consent that is about to end does; None: it is not, or has ended, which its provider will say."""
    return candidate.death if candidate.addressee.ends_soon and candidate.death > candidate.now else None


def _acts(grant: GrantView, mail: Asked | None, *, sends: bool) -> frozenset[str]:
    """Return what can be done now."""
    rotated = grant.state in ROTATED_STATES
    possible = {
        "refresh": grant.state in {GrantState.ACTIVE, GrantState.SUSPECT},
        "reconsent": sends and mail is not None and mail.why_not is None,
        "pause": rotated,
        "resume": grant.state is GrantState.PAUSED,
        "revoke": True,
    }
    return frozenset(act for act, may in possible.items() if may)
