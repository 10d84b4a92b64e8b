"""The page "Audit log": who did what to which grant, from where, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final
from urllib.parse import urlencode
from uuid import UUID

from fastapi import Query
from fastapi.responses import HTMLResponse
from pydantic import BeforeValidator

from worker.domain.audit import Act
from worker.domain.roles import CallerKind, Role
from worker.web.console.frame import TheConsole
from worker.web.page_route import page_router

router = page_router()

#: Entries on a page.
PAGE: Final = 50
#: What each act is called, after the name of whoever did it, and after "would have" where nothing came of it.
ACTS: Final[Mapping[str, str]] = {
    Act.SIGN_IN: "signed in",
    Act.SIGN_OUT: "signed out",
    Act.SIGN_OUT_EVERYWHERE: "signed out everywhere",
    Act.SIGN_IN_LINK_MADE: "made a link that signs in",
    Act.SESSION_ENDED: "ended a session",
    Act.API_TOKEN_MADE: "made an API token",
    Act.API_TOKEN_REVOKED: "revoked an API token",
    Act.ACCESS_TOKEN_GIVEN: "got an access token",
    Act.GRANT_ADOPTED: "adopted a grant",
    Act.GRANTS_IMPORTED: "imported grants",
    Act.GRANTS_EXPORTED: "exported grants",
    Act.GRANT_CHANGED: "changed a grant",
    Act.GRANT_REFRESHED: "refreshed a grant",
    Act.GRANT_PAUSED: "paused a grant",
    Act.GRANT_RESUMED: "resumed a grant",
    Act.GRANT_REVOKED: "revoked a grant",
    Act.ACCOUNT_FORGOTTEN: "let a grant change accounts",
    Act.RECONSENT_SENT: "asked for re-consent mails",
    Act.MAIL_RESENT: "sent a mail again",
    Act.MAIL_BOUNCED: "noted a bounce",
    Act.CLIENT_PAUSED: "paused a client",
    Act.CLIENT_RESUMED: "resumed a client",
    Act.CLIENT_TESTED: "tested a client's connection",
    Act.WEBHOOK_PAUSED: "paused a webhook endpoint",
    Act.WEBHOOK_RESUMED: "resumed a webhook endpoint",
    Act.WEBHOOK_TESTED: "tested a webhook endpoint",
    Act.WEBHOOK_REPLAYED: "sent events again",
    Act.SUBJECT_EXPORTED: "exported what is held of a subject",
    Act.SUBJECT_ERASED: "erased what is held of a subject",
    Act.KEYS_ROTATED: "sealed everything anew",
}
#: How whoever did it had shown who they are.
KINDS: Final[Mapping[CallerKind, str]] = {
    CallerKind.PERSON: "in the console",
    CallerKind.API_TOKEN: "by an API token",
    CallerKind.COMMAND_LINE: "on the command line",
}
_Empty = BeforeValidator(lambda value: None if value == "" else value)


@router.page("/access/audit", Role.ADMIN)
async def show_audit(
    console: TheConsole,
    *,
    who: Annotated[str | None, _Empty, Query()] = None,
    act: Annotated[str | None, _Empty, Query()] = None,
    client: Annotated[str | None, _Empty, Query()] = None,
    grant: Annotated[str | None, _Empty, Query()] = None,
    before: Annotated[str | None, _Empty, Query()] = None,
) -> HTMLResponse:
    """Show entries of the audit log, the newest first; access tokens that were given out only where asked for."""
    one_act, one_grant = Act(act) if act in set(Act) else None, _id(grant)
    chosen = {"who": who, "act": one_act, "client": client, "grant": one_grant or grant}
    # What was mistyped finds nothing: what it does not leave out would be taken for what was asked for.
    is_wrong = act not in {None, one_act} or (grant is not None and one_grant is None)
    found = (
        ()
        if is_wrong
        else await console.container.audit.list(
            client=console.person.client or client,
            grant_id=one_grant,
            act=one_act,
            actor=who,
            before=_number(before),
            tokens=False,
            limit=PAGE + 1,
        )
    )
    lines = found[:PAGE]
    kept = {name: str(value) for name, value in chosen.items() if value is not None}
    following = {**kept, "before": lines[-1].id} if len(found) > PAGE else None
    return console.show(
        "access_audit.html",
        lines=lines,
        chosen=chosen,
        wrong=[text for text, one in ((act, one_act), (grant, one_grant)) if text is not None and one is None],
        acts=ACTS,
        kinds=KINDS,
        pages={
            "first": f"/access/audit?{urlencode(kept)}" if before else None,
            "before": None,
            "after": f"/access/audit?{urlencode(following)}" if following else None,
        },
        now=await console.container.grants.now(),
    )


def _id(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text is not None else None
    except ValueError:
        return None


def _number(text: str | None) -> int | None:
    #: As long as a number of PostgreSQL's bigint is sure to be.
    is_one = text is not None and text.isascii() and text.isdigit() and len(text) <= 18  # noqa: PLR2004 -- as said
    return int(text) if is_one and text is not None else None
