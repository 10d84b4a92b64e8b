"""What an operator does to one grant: refresh now, mail its owner, set their address, pause, resume, revoke."""

from __future__ import annotations

from typing import Annotated, Final
from uuid import UUID

from fastapi import Form
from fastapi.responses import Response
from pydantic import TypeAdapter, ValidationError

from worker.bootstrap import Container
from worker.domain.audit import Act
from worker.domain.errors import ConfigurationError, SealError
from worker.domain.outcome import Rotated, reason
from worker.domain.reconsent import Asker
from worker.domain.roles import Role
from worker.usecases.access_token import (
    FreshToken,
    HeldBack,
    NoSuchGrant,
    NotKeptAlive,
    RefreshFailed,
    RefusedLately,
    TooEarly,
)
from worker.usecases.offer import LONGEST_EMAIL, Email
from worker.usecases.operate import AtProvider, Done, NotPossible
from worker.web.admission import Notes
from worker.web.console.frame import TheConsole, go_to
from worker.web.page_route import TheNotes, page_router

router = page_router()

#: What is said where an act was not done.
_FAILED: Final = frozenset(
    {
        "refresh_failed",
        "held_back",
        "too_early",
        "refused",
        "not_possible",
        "not_mailed",
        "no_mail_server",
        "unreadable",
        "not_configured",
        "not_confirmed",
        "consented_again",
        "no_address",
    }
)
_EMAIL: Final[TypeAdapter[str]] = TypeAdapter(Email)
_REFRESHED: Final = {
    FreshToken: "refreshed",
    HeldBack: "held_back",
    TooEarly: "too_early",
    RefusedLately: "refused",
    NotKeptAlive: "not_possible",
    NoSuchGrant: "not_possible",
    RefreshFailed: "not_possible",
}


@router.act("/grants/{grant_id}/refresh", Role.OPERATOR, Act.GRANT_REFRESHED)
async def refresh(console: TheConsole, notes: TheNotes, grant_id: UUID) -> Response:
    """Refresh a grant now."""
    await console.grant(grant_id)
    said, why = await _refreshed(console.container, grant_id)
    return _back(notes, grant_id, said, why)


@router.act("/grants/{grant_id}/reconsent", Role.OPERATOR, Act.RECONSENT_SENT)
async def reconsent(console: TheConsole, notes: TheNotes, grant_id: UUID) -> Response:
    """Send a grant's owner a link to authorize again."""
    await console.grant(grant_id)
    requests = console.container.mails.requests
    if not requests.sends:
        return _back(notes, grant_id, "no_mail_server")
    [asked] = await requests.ask([grant_id], Asker.OPERATOR_BY_NAME)
    return (
        _back(notes, grant_id, "mailed")
        if asked.why_not is None
        else _back(notes, grant_id, "not_mailed", asked.why_not.value)
    )


@router.act("/grants/{grant_id}/email", Role.OPERATOR, Act.GRANT_CHANGED)
async def set_email(
    console: TheConsole, notes: TheNotes, grant_id: UUID, *, email: Annotated[str, Form(max_length=LONGEST_EMAIL)] = ""
) -> Response:
    """Say where a grant's owner is mailed; an empty text takes the address away."""
    await console.grant(grant_id)
    notes.details["changed"] = ["email"]
    try:
        address = _EMAIL.validate_python(email.strip()) if email.strip() else None
    except ValidationError:
        return _back(notes, grant_id, "no_address")
    changed = await console.container.operations.acts.set_email(grant_id, address)
    return _back(notes, grant_id, "email_set" if changed else "not_possible")


@router.act("/grants/{grant_id}/pause", Role.OPERATOR, Act.GRANT_PAUSED)
async def pause(console: TheConsole, notes: TheNotes, grant_id: UUID) -> Response:
    """Keep a grant from being refreshed, until it is resumed."""
    await console.grant(grant_id)
    return _back(notes, grant_id, _changed(await console.container.operations.pause(grant_id), "paused"))


@router.act("/grants/{grant_id}/resume", Role.OPERATOR, Act.GRANT_RESUMED)
async def resume(console: TheConsole, notes: TheNotes, grant_id: UUID) -> Response:
    """Let a paused grant go on."""
    await console.grant(grant_id)
    return _back(notes, grant_id, _changed(await console.container.operations.resume(grant_id), "resumed"))


@router.act("/grants/{grant_id}/revoke", Role.OPERATOR, Act.GRANT_REVOKED)
async def revoke(console: TheConsole, notes: TheNotes, grant_id: UUID) -> Response:
    """End a grant on purpose, here and at its provider."""
    await console.grant(grant_id)
    try:
        ended = await console.container.operations.revoke(grant_id)
    except SealError:
        return _back(notes, grant_id, "unreadable")
    if isinstance(ended, NoSuchGrant):
        return _back(notes, grant_id, "not_possible")
    return _back(notes, grant_id, _ended(ended.at_provider))


def _ended(at_provider: AtProvider) -> str:
    match at_provider:
        case AtProvider.REVOKED:
            return "revoked"
        case AtProvider.NOT_OFFERED:
            return "revoked_here"
        case AtProvider.NOT_CONFIRMED:
            return "not_confirmed"
        case AtProvider.CONSENTED_AGAIN:
            return "consented_again"
        case AtProvider.ERASED:
            return "erased"


def _back(notes: Notes, grant_id: UUID, said: str, why: str | None = None) -> Response:
    notes.failed = said in _FAILED
    if why is not None:
        notes.details["reason"] = why
    return go_to(f"/grants/{grant_id}", {"said": said, "why": why})


def _changed(result: Done | NotPossible | NoSuchGrant, done: str) -> str:
    match result:
        case Done(changed=changed):
            return done if changed else "unchanged"
        case NotPossible() | NoSuchGrant():
            return "not_possible"


async def _refreshed(container: Container, grant_id: UUID) -> tuple[str, str | None]:
    try:
        result = await container.access_tokens.refresh(grant_id)
    except (ConfigurationError, SealError) as error:
        return "unreadable" if isinstance(error, SealError) else "not_configured", None
    match result:
        case RefreshFailed(outcome=outcome) if not isinstance(outcome, Rotated):
            return "refresh_failed", reason(outcome).value
        case _:
            return _REFRESHED[type(result)], None
