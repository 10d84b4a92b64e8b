"""Who is let in, and what of it is written down: the one place for the API's routes and the console's pages.

A route declares what it needs (`Declared`). `admit` compares that with who asks; `audited` writes down what came of an
act. How somebody shows who they are is the business of the two doors: an API token (`worker.web.api.route`), or a
session (`worker.web.page_route`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated, Final, overload
from uuid import UUID

from fastapi import Depends, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from worker.audit_entries import write_entries
from worker.bootstrap import Container
from worker.domain.audit import Act, Actor, ActOutcome, AuditEntry
from worker.domain.roles import Caller, Everybody, Needed, Role
from worker.logging import get_logger
from worker.web.client_address import client_address, is_from_unnamed_proxy

log = get_logger("evergrant.audit")

#: Longer is no value of ours.
_LONGEST_DETAIL: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What a route declares: which role it needs, and as which act it is written down, if it is one."""

    needs: Needed
    act: Act | None = None


#: What a route declares that is open to whoever can reach it.
PUBLIC: Final = Declared(needs=Everybody.PUBLIC)


class RoleTooLowError(Exception):
    """Somebody asks for what their role does not allow."""

    def __init__(self, caller: Caller, needed: Role) -> None:
        super().__init__(f"this needs the role {needed}, and {caller.role} is not enough")
        self.caller = caller
        self.needed = needed


@dataclass(slots=True, kw_only=True)
class Notes:
    """What a route tells the audit log beside its path: set while it works, read when it has answered."""

    client: str | None = None
    grant_id: UUID | None = None
    failed: bool = False  #: for an answer whose status does not say so
    details: dict[str, object] = field(default_factory=dict)


def admit(request: Request, caller: Caller, declared: Declared) -> None:
    """Let a caller in whose role is enough for a route.

    Raises:
        RoleTooLowError: it is not.

    """
    request.state.caller = caller
    if not caller.may(declared.needs):
        raise RoleTooLowError(caller, Role(declared.needs))


async def audited(
    request: Request, container: Container, declared: Declared, respond: Callable[[], Awaitable[Response]]
) -> Response:
    """Answer a request and write down the act that it was, whatever came of it.

    The client and the grant are taken from the path's `{client}` and `{grant_id}`, unless the route has noted others.
    Whoever could not be told apart is not written down: there is no name to write.

    Args:
        request: the request, with its path's parameters.
        container: has the log.
        declared: what the route declares; without an act nothing is written.
        respond: answers; it must set `request.state.caller`, as `admit` does.

    """
    request.state.notes = notes = Notes()
    response = await respond()
    caller: Caller | None = getattr(request.state, "caller", None)
    if declared.act is None or caller is None:
        return response
    if declared.act is Act.ACCESS_TOKEN_GIVEN:  # thousands a second: counted, and written down together
        container.token_audit.note(
            Actor.of(caller, address_of(request, container)),
            client=one_line(notes.client),
            grant_id=notes.grant_id or _grant_of(request),
            outcome=_outcome(response, notes),
        )
    else:
        await write_down(request, container, declared.act, caller, outcome=_outcome(response, notes), notes=notes)
    return response


async def write_down(
    request: Request,
    container: Container,
    act: Act,
    caller: Caller,
    *,
    outcome: ActOutcome = ActOutcome.DONE,
    notes: Notes | None = None,
) -> None:
    """Write one entry into the audit log: who did what to which grant from where, and what came of it.

    What was done is done: where the database does not take the entry, it goes to this process's log instead.

    Args:
        request: tells from where, and by its path about what.
        container: has the log.
        act: what was done.
        caller: who did it.
        outcome: what came of it.
        notes: what the path does not tell.

    """
    noted = notes or Notes()
    entry = AuditEntry(
        actor=Actor.of(caller, address_of(request, container)),
        act=act,
        outcome=outcome,
        client=one_line(noted.client or request.path_params.get("client")),
        grant_id=noted.grant_id or _grant_of(request),
        details={name: _plain(value) for name, value in noted.details.items()},
    )
    await write_entries(container.audit, entry)


def address_of(request: Request, container: Container) -> str | None:
    """Return the address that a request came from."""
    trusted = container.configuration.web.trusted_proxies
    if is_from_unnamed_proxy(request, trusted) and not getattr(request.app.state, "unnamed_proxy_told", False):
        request.app.state.unnamed_proxy_told = True  # once: anybody can send this header
        remedy = "if that is a proxy of yours, name its network in [web] trusted_proxies: now all behind it are one"
        log.warning("proxy_not_trusted", address=client_address(request, ()), remedy=remedy)
    return client_address(request, trusted)


def limited(receive: Receive, longest: int) -> Receive:
    """Return the same body, up to so many bytes; what is longer is answered with 413."""
    size = 0

    async def so_many() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > longest:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return message

    return so_many


async def _notes(request: Request) -> Notes:
    notes: Notes = request.state.notes
    return notes


TheNotes = Annotated[Notes, Depends(_notes)]


def _outcome(response: Response, notes: Notes) -> ActOutcome:
    if response.status_code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return ActOutcome.REFUSED
    is_done = response.status_code < HTTPStatus.BAD_REQUEST and not notes.failed
    return ActOutcome.DONE if is_done else ActOutcome.FAILED


def _grant_of(request: Request) -> UUID | None:
    try:
        return UUID(request.path_params.get("grant_id", ""))
    except ValueError:
        return None


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return one_line(str(value))


@overload
def one_line(text: str) -> str: ...
@overload
def one_line(text: None) -> None: ...
@overload
def one_line(text: str | None) -> str | None: ...
def one_line(text: str | None) -> str | None:
    """Return what somebody wrote as it can be shown on one line, of a terminal too."""
    return "".join(sign if sign.isprintable() else "?" for sign in text[:_LONGEST_DETAIL]) if text is not None else None
