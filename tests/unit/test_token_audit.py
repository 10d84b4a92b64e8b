"""Access tokens that were given out reach the audit log, whenever they are noted."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import cast

import pytest

from worker.domain.audit import Actor, ActOutcome, AuditEntry
from worker.domain.roles import CallerKind, Role
from worker.storage.audit_log import AuditLog
from worker.usecases import token_audit
from worker.usecases.token_audit import TokenAudit

ADA = Actor(kind=CallerKind.API_TOKEN, id=None, name="Ada", role=Role.TOKEN, address=None)


@dataclass
class _Log:
    """Takes entries; after the first, one more access token is asked for before the loop does anything else."""

    audit: TokenAudit | None = None
    written: list[AuditEntry] = field(default_factory=list)
    both: asyncio.Event = field(default_factory=asyncio.Event)

    async def write(self, *entries: AuditEntry) -> None:
        self.written += entries
        if len(self.written) > 1:
            self.both.set()
        elif self.audit is not None:
            asyncio.get_running_loop().call_soon(note, self.audit, "later")


def note(audit: TokenAudit, client: str) -> None:
    """Note that an access token of this client was given out."""
    audit.note(ADA, client=client, grant_id=None, outcome=ActOutcome.DONE)


@pytest.mark.anyio
async def test_what_is_noted_as_the_writer_ends_is_written_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its last look and its end nobody may think that it will still write: the next note begins another."""
    monkeypatch.setattr(token_audit, "WRITTEN_EVERY", 0.01)
    log = _Log()
    log.audit = audit = TokenAudit(log=cast("AuditLog", log), dropped=lambda _count: None)
    note(audit, "first")
    await asyncio.wait_for(log.both.wait(), 10)
    assert [entry.client for entry in log.written] == ["first", "later"]
    await audit.close()
