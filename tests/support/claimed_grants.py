"""A claimed grant for tests of what is decided and told of one, without a database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from worker.domain.grant import ClaimedGrant, GrantState, Lease
from worker.domain.secret import Secret

_CLAIMED_AT: Final = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
_GRANT: Final = ClaimedGrant(
    lease=Lease(grant_id=UUID(int=1), lease_id=UUID(int=2), generation=3),
    client="acme-main",
    subject="customer-42",
    state=GrantState.ACTIVE,
    refresh_token=Secret("rt-1"),
    access_token=None,
    leased_until=_CLAIMED_AT + timedelta(minutes=1),
    claimed_at=_CLAIMED_AT,
    claimed_tick=100.0,
    rotate_at=_CLAIMED_AT,
    consented_at=None,
    access_expires_at=None,
    strikes=0,
    failures=0,
    scopes=("profile", "organization"),
    lost_scopes=(),
    captured={},
    presentations=0,
    doubt_since=None,
    is_canary=False,
)


def claimed_grant(**changes: Any) -> ClaimedGrant:
    """Return an active grant as it was claimed, with these fields changed."""
    return replace(_GRANT, **changes)
