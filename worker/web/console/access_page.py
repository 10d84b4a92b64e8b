"""The page "Access": API tokens, which are made and revoked here, and sessions, which are ended here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Final
from uuid import UUID

from fastapi import Form, Query
from fastapi.responses import HTMLResponse, Response
from pydantic import BeforeValidator

from worker.domain.audit import Act
from worker.domain.roles import Role
from worker.storage.api_tokens import ApiTokenView
from worker.usecases.api_access import LONGEST_NAME
from worker.web.console.frame import Console, TheConsole, go_to
from worker.web.console.said import read_said
from worker.web.page_route import Refused, TheNotes, not_there, page_router

router = page_router()

#: How long a new token may be good, by the words of the form; the last is for those who revoke by hand.
_LIVES: Final[Mapping[str, tuple[str, timedelta | None]]] = {
    "30d": ("30 days", timedelta(days=30)),
    "90d": ("90 days", timedelta(days=90)),
    "365d": ("a year", timedelta(days=365)),
    "never": ("until it is revoked", None),
}
#: Sessions on the page.
SESSIONS: Final = 200
_Empty = BeforeValidator(lambda value: None if value == "" else value)


@router.page("/access", Role.ADMIN)
async def show_tokens(
    console: TheConsole,
    *,
    ended: Annotated[bool, Query()] = False,
    said: Annotated[str | None, Query()] = None,
) -> HTMLResponse:
    """Show the API tokens that are good, or those that are so no more, too."""
    return await _tokens(console, ended=ended, said=said)


@router.page("/access/tokens", Role.ADMIN)
async def back_to_tokens() -> Response:
    """Lead back whoever opens the address at which a new token was shown: it is shown once."""
    return go_to("/access")


@router.act("/access/tokens", Role.ADMIN, Act.API_TOKEN_MADE)
async def make_token(
    console: TheConsole,
    notes: TheNotes,
    *,
    name: Annotated[str, Form()] = "",
    role: Annotated[str, Form()] = "",
    client: Annotated[str | None, _Empty, Form()] = None,
    life: Annotated[str, Form()] = "",
) -> Response:
    """Make an API token and show it: this is the only time that it can be seen."""
    bound = client or console.person.client
    notes.details |= {"name": name, "role": role}
    notes.client = bound
    if not (0 < len(name) <= LONGEST_NAME and name.isprintable()):
        raise _not_made(f"A name has 1 to {LONGEST_NAME} printable characters.")
    if role not in set(Role) or life not in _LIVES:
        raise _not_made("Choose a role, and how long it is good.")
    if bound is not None and bound not in console.clients:
        raise not_there("client")
    lifetime = _LIVES[life][1]
    token_id, token = await console.container.api_access.create(Role(role), client=bound, name=name, lifetime=lifetime)
    notes.details["token"] = token_id
    # Not sent on to another page: the token would have to be kept for it.
    return await _tokens(console, made=token.reveal())


@router.act("/access/tokens/{token_id}/revoke", Role.ADMIN, Act.API_TOKEN_REVOKED)
async def revoke_token(console: TheConsole, notes: TheNotes, token_id: UUID) -> Response:
    """End an API token."""
    notes.details["token"] = token_id
    if not await console.container.api_access.tokens.revoke(token_id, client=console.person.client):
        raise not_there("API token")
    return go_to("/access", {"said": "token_revoked"})


@router.page("/access/sessions", Role.ADMIN)
async def show_sessions(console: TheConsole, *, said: Annotated[str | None, Query()] = None) -> HTMLResponse:
    """Show who has signed in, and where."""
    found = await console.container.sessions.list(client=console.person.client, limit=SESSIONS)
    return console.show(
        "access_sessions.html",
        sessions=found,
        shown=SESSIONS,
        own=console.person.caller.id,
        now=await console.container.grants.now(),
        said=read_said(said),
    )


@router.act("/access/sessions/{session_id}/end", Role.ADMIN, Act.SESSION_ENDED)
async def end_session(console: TheConsole, notes: TheNotes, session_id: UUID) -> Response:
    """End somebody's session."""
    notes.details["session"] = session_id
    if not await console.container.sessions.end(session_id, client=console.person.client):
        raise not_there("session")
    return go_to("/access/sessions", {"said": "session_ended"})


async def _tokens(
    console: Console, *, ended: bool = False, said: str | None = None, made: str | None = None
) -> HTMLResponse:
    now = await console.container.grants.now()
    found: Sequence[ApiTokenView] = await console.container.api_access.tokens.list(client=console.person.client)
    return console.show(
        "access_tokens.html",
        tokens=[token for token in reversed(found) if ended or _is_good(token, now)],
        left_out=0 if ended else sum(not _is_good(token, now) for token in found),
        roles=list(Role),
        lives={name: text for name, (text, _) in _LIVES.items()},
        made=made,
        now=now,
        said=read_said(said),
    )


def _is_good(token: ApiTokenView, now: datetime) -> bool:
    return token.revoked_at is None and (token.expires_at is None or token.expires_at > now)


def _not_made(text: str) -> Refused:
    return Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "No token was made", f"{text} Go back, and correct it.")
