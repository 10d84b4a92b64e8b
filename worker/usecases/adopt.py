"""Adopting a grant: its tokens come from elsewhere and are kept alive from now on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from worker.domain import schedule
from worker.domain.secret import Secret
from worker.oauth.registry import Registry
from worker.storage.consents import Arrival, Consents, NewGrant
from worker.storage.grants import Grants


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """Adopts grants. `new_id` and `draw` are chance."""

    registry: Registry
    consents: Consents
    grants: Grants
    new_id: Callable[[], UUID]
    draw: Callable[[], float]

    async def adopt(
        self,
        client_name: str,
        subject: str,
        *,
        refresh_token: Secret,
        access_token: Secret | None = None,
        expires_in: timedelta | None = None,
        email: str | None = None,
    ) -> tuple[UUID, Arrival]:
        """Take over a grant, unless the client has one for this subject already.

        Without an access token, or without knowing how long it still lives, the grant is due at once.

        Args:
            client_name: the client that the refresh token was issued to.
            subject: the calling team's own name for the owner.
            refresh_token: the newest one; whoever holds an older copy must not use it any more.
            access_token: the one in use, if it is known.
            expires_in: what is left of its life.
            email: where the owner can be reached.

        Raises:
            ConfigurationError: when the client is not configured.

        """
        client = self.registry.client(client_name)
        now = await self.grants.now()
        if not client.provider.facts.is_refreshed:
            # It has one token that does not end, whatever it was called where it comes from.
            access_token, expires_in = access_token or refresh_token, expires_in or schedule.LONGEST_LIFETIME
        rotate_at = now
        if access_token is not None and expires_in is not None:
            rotate_at = schedule.rotate_at(
                issued_at=now,
                keep=client.keep,
                facts=client.provider.facts,
                access=min(expires_in, schedule.LONGEST_LIFETIME),
                refresh=None,
                draw=self.draw(),
            )
        known = access_token is not None and expires_in is not None
        grant = NewGrant(
            client=client.name,
            subject=subject,
            refresh_token=refresh_token,
            access_token=access_token,
            issued_at=now if known else None,
            access_expires_at=now + expires_in if access_token is not None and expires_in is not None else None,
            refresh_expires_at=None,
            rotate_at=rotate_at,
            scopes=client.scopes or None,
            email=email,
        )
        grant_id = self.new_id()
        arrival = await self.consents.adopt(grant_id, grant)
        if arrival is Arrival.ALREADY_THERE:
            found = await self.grants.find(client.name, subject)
            grant_id = found.id if found is not None else grant_id
        return grant_id, arrival
