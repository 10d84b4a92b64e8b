"""Endpoints and events of webhooks, for tests: configuration, things that happen, delivering until nothing is due."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import Row, text

from tests.support.database import rows
from tests.support.waiting import until
from worker.bootstrap import Container
from worker.usecases.webhooks import Webhooks

SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # the one of the specification's examples
OTHER_SECRET: Final = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
ENVIRONMENT: Final = {"HOOK_SECRET": SECRET, "OTHER_HOOK_SECRET": OTHER_SECRET}


def endpoint(url: str, name: str = "billing", more: str = "", secret: str = '"env:HOOK_SECRET"') -> str:
    """Return the table of an endpoint, with further lines."""
    return f'[webhooks.{name}]\nurl = "{url}"\nsecret = {secret}\n{more}\n'


def impatient(container: Container) -> Webhooks:
    """Return the container's webhooks with chance at its lowest: what failed is tried again at once."""
    return replace(container.webhooks, draw=lambda: 0.0)


async def happen(container: Container, *types: str, grant: UUID | None = None, client: str = "ours") -> list[int]:
    """Write one event after the other, each in a transaction of its own, and return their ids."""
    statement = text("""
        INSERT INTO events (type, client, grant_id, subject, data)
        VALUES (:type, :client, :grant_id, :subject, '{"generation": 1}') RETURNING id
    """)
    ids = []
    for event_type in types:
        about = {"type": event_type, "client": client, "grant_id": grant, "subject": str(grant) if grant else None}
        async with container.engine.begin() as connection:
            ids.append((await connection.execute(statement, about)).scalar_one())
    return ids


async def many(container: Container, grants: int, each: int) -> list[UUID]:
    """Let a number of things happen to each of some new grants, in turns, and return the grants."""
    ids = [uuid4() for _ in range(grants)]
    for _turn in range(each):
        for grant in ids:
            await happen(container, "grant.in_doubt", grant=grant)
    return ids


async def deliver(hooks: Webhooks) -> None:
    """Do what ticks and tickets do, until nothing is due."""
    while due := await hooks.due():
        for name in due:
            await hooks.deliver(name)


async def delivered(hooks: Webhooks, container: Container, seconds: float = 20.0) -> None:
    """Deliver until nothing waits any more, as ticks would."""

    async def nothing_waits() -> bool:
        await deliver(hooks)
        return not await waiting(container)

    await until(nothing_waits, seconds, "every event is delivered")


async def waiting(container: Container) -> Sequence[Row[Any]]:
    """Return the deliveries that are not dead."""
    return await rows(container, "SELECT * FROM webhook_deliveries WHERE dead_at IS NULL ORDER BY endpoint, event_id")
