"""`evergrant audit`: who did what to which grant, from where, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

import typer

from worker.bootstrap import Container
from worker.commands.console import AsJson, print_json, print_table, with_container
from worker.domain.audit import Act
from worker.storage.audit_log import AuditLine

#: A screen or two.
_SHOWN = 50


def audit(
    *,
    client: Annotated[str | None, typer.Option(help="Only what was done to this client and its grants.")] = None,
    grant: Annotated[UUID | None, typer.Option(help="Only what was done to this grant.")] = None,
    act: Annotated[Act | None, typer.Option(help="Only acts of this kind.")] = None,
    who: Annotated[str | None, typer.Option(help="Only what somebody of this name did.")] = None,
    before: Annotated[int | None, typer.Option(min=1, help="Only entries before the one of this id.")] = None,
    tokens: Annotated[
        bool, typer.Option("--tokens/--no-tokens", help="With the access tokens that were given out, or without.")
    ] = True,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = _SHOWN,
    as_json: AsJson = False,
) -> None:
    """List who did what, the newest first. Access tokens that were given out in one second are one entry.

    Where many are given out, --no-tokens shows the rest, and finds it at once.

    Example: evergrant audit --grant 018f3c5e-0000-4000-8000-000000000000
    """

    async def work(container: Container) -> Sequence[AuditLine]:
        return await container.audit.list(
            client=client, grant_id=grant, act=act, actor=who, before=before, tokens=tokens, limit=limit
        )

    found = with_container(work)
    if as_json:
        print_json(found)
        return
    print_table(
        ["ID", "WHEN", "WHO", "BY", "ROLE", "FROM", "ACT", "OUTCOME", "TIMES", "CLIENT", "SUBJECT", "GRANT", "MORE"],
        [
            [
                *(line.id, line.at, line.actor, line.kind, line.role, line.address, line.act, line.outcome, line.count),
                *(line.client, line.subject, line.grant_id, more(line)),
            ]
            for line in found
        ],
    )


def more(line: AuditLine) -> str | None:
    """Return an entry's details on one line."""
    return ", ".join(f"{name}: {value}" for name, value in line.details.items() if value is not None) or None
