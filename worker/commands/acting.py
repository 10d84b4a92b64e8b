"""What a command does, for the audit log: who ran it, on which machine, to which grant, and what came of it."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

from worker.audit_entries import write_entries
from worker.bootstrap import Container
from worker.domain.audit import Act, Actor, ActOutcome, AuditEntry
from worker.domain.roles import CallerKind

T = TypeVar("T")


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
            actor=command_line_actor(),
            act=acting.act,
            outcome=ActOutcome.FAILED if acting.failed else ActOutcome.DONE,
            client=acting.client,
            grant_id=acting.grant_id,
            details=acting.details,
        )
        await write_entries(container.audit, entry)
    return result


def command_line_actor() -> Actor:
    """Return whoever runs this process, and on which machine."""
    return Actor(kind=CallerKind.COMMAND_LINE, id=None, name=user_here(), role=None, address=socket.gethostname())


def user_here() -> str:
    """Return the name of whoever runs this process: who became another user by sudo is still who they were."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a container's user may have a number alone
        return f"user {os.getuid()}"
