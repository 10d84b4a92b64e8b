"""What a command does, for the audit log: who ran it, on which machine, to which grant, and what came of it."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

from worker.bootstrap import Container
from worker.domain.audit import Act, Actor, ActOutcome, AuditEntry
from worker.domain.roles import CallerKind
from worker.logging import get_logger
from worker.storage.away import AWAY

T = TypeVar("T")

log = get_logger("evergrant.audit")


@dataclass(slots=True, kw_only=True)
class Acting:
    """An act of the command line; what is only known while it works is set then."""

    act: Act
    client: str | None = None
    grant_id: UUID | None = None
    details: dict[str, object] = field(default_factory=dict)
    failed: bool = False


async def written_down(container: Container, acting: Acting, work: Callable[[Container], Awaitable[T]]) -> T:
    """Do the work of an act and write down what came of it, an exception included.

    What was done is done: where the database does not take the entry, it goes to standard error instead.
    """
    try:
        result = await work(container)
    except BaseException:
        acting.failed = True
        raise
    finally:
        entry = AuditEntry(
            actor=_actor(),
            act=acting.act,
            outcome=ActOutcome.FAILED if acting.failed else ActOutcome.DONE,
            client=acting.client,
            grant_id=acting.grant_id,
            details=acting.details,
        )
        await _store(container, entry)
    return result


async def write_down_each(container: Container, act: Act, grants: Iterable[tuple[str, UUID]]) -> None:
    """Write an entry into the audit log for each grant that one command was about.

    Args:
        container: has the log.
        act: what was done.
        grants: each with its client.

    """
    actor = _actor()
    await _store(
        container, *(AuditEntry(actor=actor, act=act, client=client, grant_id=grant_id) for client, grant_id in grants)
    )


async def _store(container: Container, *entries: AuditEntry) -> None:
    try:
        await container.audit.write(*entries)
    except AWAY as error:
        for entry in entries:
            log.error("audit_entry_not_stored", error=type(error).__name__, entry=str(entry))  # noqa: TRY400 -- all is said


def _actor() -> Actor:
    return Actor(kind=CallerKind.COMMAND_LINE, id=None, name=user_here(), role=None, address=socket.gethostname())


def user_here() -> str:
    """Return the name of whoever runs this process: who became another user by sudo is still who they were."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a container's user may have a number alone
        return f"user {os.getuid()}"
