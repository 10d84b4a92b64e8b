"""Claiming and settling by hand, for tests of the guarded statements themselves."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final
from uuid import uuid4

from tests.support.sandbox_clients import SandboxClient
from worker.bootstrap import Container
from worker.domain.grant import ClaimedGrant
from worker.domain.outcome import Cause, Reason, Tokens
from worker.domain.secret import Secret
from worker.domain.settlement import (
    AddStrike,
    EnterDoubt,
    HandBack,
    Postpone,
    RequireReconsent,
    Settlement,
    StoreTokens,
)
from worker.storage.claim import Claimed
from worker.storage.settle_queue import Settled

DRAIN_SECONDS: Final = 20.0
LEASE: Final = timedelta(seconds=60)


async def drain(container: Container, client: SandboxClient) -> int:
    """Do what a ticket asks for, and return how many grants were claimed."""
    return await container.drains.drain(container.configuration.registry.client(client.name), DRAIN_SECONDS)


async def claim(
    container: Container, client: SandboxClient, free: int, lease: timedelta = LEASE, since: datetime | None = None
) -> Claimed:
    """Claim a client's due grants, from a place in line on."""
    limits = container.configuration.registry.client(client.name).limits
    claims = container.access_tokens.claims
    return await claims.claim_due(client.name, limits=limits, free=free, lease=lease, since=since)


async def settle(container: Container, grant: ClaimedGrant, settlement: Settlement) -> Settled:
    """Store one settlement."""
    return await container.rotation.settles.settle(grant.lease, settlement)


def new_tokens(at: datetime) -> StoreTokens:
    """Make a settlement with tokens that nobody has seen before, issued at this instant."""
    tokens = Tokens(
        access_token=Secret(f"access-{uuid4()}"),
        refresh_token=Secret(f"refresh-{uuid4()}"),
        access_lifetime=timedelta(hours=1),
    )
    return StoreTokens(
        tokens=tokens,
        issued_at=at,
        access_expires_at=at + timedelta(hours=1),
        refresh_expires_at=None,
        rotate_at=at + timedelta(minutes=45),
    )


def every_kind(at: datetime) -> list[Settlement]:
    """Make one settlement of each kind, due again at this instant."""
    cause = Cause(reason=Reason.INVALID_GRANT, status=400, code="invalid_grant")
    return [
        new_tokens(at),
        AddStrike(cause=cause, rotate_at=at),
        RequireReconsent(cause=cause, if_braked=at),
        Postpone(cause=cause, rotate_at=at),
        EnterDoubt(cause=cause, rotate_at=at),
        HandBack(cause=cause),
    ]
