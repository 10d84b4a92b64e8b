"""An operator's hand on one grant: pause, resume, revoke."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from worker.domain import schedule
from worker.domain.doubt import GiveUp, PresentAgain, plan_doubt
from worker.domain.errors import ConfigurationError
from worker.domain.facts import TokenFacts
from worker.domain.grant import ROTATED_STATES, GrantState
from worker.oauth.client import Client
from worker.oauth.registry import Registry
from worker.oauth.token_tools import TokenTools
from worker.storage.grants import Grants
from worker.storage.operator_acts import OperatorActs, PausedGrant, TokensToGiveBack
from worker.usecases.access_token import NoSuchGrant

#: How often to look whether a request that is under way has been settled, seconds.
LOOK_EVERY: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The grant is as it was wanted; `changed` is False where it was so before."""

    changed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NotPossible:
    """The grant's state does not allow it."""

    state: GrantState


class AtProvider(StrEnum):
    """What became of the refresh token at its provider."""

    REVOKED = "revoked"  #: the provider has ended it (RFC 7009)
    NOT_OFFERED = "not_offered"  #: the provider has no such endpoint, or its client is not configured any more
    NOT_CONFIRMED = "not_confirmed"  #: the provider did not say that it has; it may be tried again
    CONSENTED_AGAIN = "consented_again"  #: its owner has consented anew meanwhile: it was left alone, and is alive
    ERASED = "erased"  #: that was settled before, and no token is left that could be given back


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """The grant has ended here; `changed` is False where it had before."""

    at_provider: AtProvider
    changed: bool
    erased: bool  #: whether no token of it is left here


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantOperations:
    """Pauses, resumes and ends grants. `tick` is the monotonic clock in seconds, `draw` is chance in [0, 1)."""

    grants: Grants
    acts: OperatorActs
    token_tools: TokenTools
    registry: Registry
    lease: timedelta
    tick: Callable[[], float]
    draw: Callable[[], float]

    async def pause(self, grant_id: UUID) -> Done | NotPossible | NoSuchGrant:
        """Keep a grant from being refreshed, until it is resumed. What is under way is settled all the same."""
        if await self.acts.pause(grant_id):
            return Done(changed=True)
        found = await self.acts.paused(grant_id)
        if found is None:
            return NoSuchGrant()
        return Done(changed=False) if found.state is GrantState.PAUSED else NotPossible(state=found.state)

    async def resume(self, grant_id: UUID) -> Done | NotPossible | NoSuchGrant:
        """Let a paused grant go on: due when it would have been, or when its provider's facts allow it in doubt."""
        while (found := await self.acts.paused(grant_id)) is not None:
            if found.state is not GrantState.PAUSED:
                return Done(changed=False) if found.state in ROTATED_STATES else NotPossible(state=found.state)
            if await self.acts.resume(grant_id, found, self._due(found)):
                return Done(changed=True)
        return NoSuchGrant()

    async def revoke(self, grant_id: UUID, *, force: bool = False) -> Revoked | NoSuchGrant:
        """End a grant on purpose, here and at its provider. It may be repeated, until the provider has confirmed it.

        Its tokens are erased as soon as the provider has confirmed it, or offers no way to.

        Args:
            grant_id: the grant.
            force: erase them whatever the provider says; it may not be asked again then.

        Raises:
            SealError: when the key ring does not open the refresh token; the grant has ended here by then.

        """
        # Here first: nobody refreshes it from now on, and no failure at the provider leaves it alive by accident.
        changed = await self.acts.revoke(grant_id)
        view = await self.grants.show(grant_id)
        if view is None:
            return NoSuchGrant()
        newest = await self._newest_tokens(grant_id)
        if newest is None:  # its owner has consented again meanwhile: what is there now was not meant
            return Revoked(at_provider=AtProvider.CONSENTED_AGAIN, changed=changed, erased=False)
        at_provider = await self._give_back(view.client, newest)
        erased = at_provider is AtProvider.ERASED
        if force or at_provider in {AtProvider.REVOKED, AtProvider.NOT_OFFERED}:  # else needed for the next try
            erased = await self.acts.erase_secrets(grant_id, newest.generation)
        return Revoked(at_provider=at_provider, changed=changed, erased=erased)

    async def _newest_tokens(self, grant_id: UUID) -> TokensToGiveBack | None:
        # A request that left before may still bring others, and those are the ones to give back.
        deadline = self.tick() + self.lease.total_seconds()
        held = await self.acts.to_give_back(grant_id)
        while held is not None and held.leased and self.tick() < deadline:
            await asyncio.sleep(LOOK_EVERY)
            held = await self.acts.to_give_back(grant_id)
        return held

    async def _give_back(self, client_name: str, tokens: TokensToGiveBack) -> AtProvider:
        if tokens.refresh_token is None:
            return AtProvider.ERASED
        try:
            client = self.registry.client(client_name)
        except ConfigurationError:
            return AtProvider.NOT_OFFERED
        if client.provider.revocation_endpoint is None:
            return AtProvider.NOT_OFFERED
        taken = await self.token_tools.revoke(
            client, tokens.refresh_token, access_token=tokens.access_token, captured=tokens.captured
        )
        return AtProvider.REVOKED if taken else AtProvider.NOT_CONFIRMED

    def _due(self, found: PausedGrant) -> datetime:
        configured = self.registry.clients.get(found.client)
        if found.doubt_since is None:
            return self._scheduled(found, configured)
        plan = plan_doubt(
            facts=configured.provider.facts if configured is not None else TokenFacts(),
            now=found.now,
            doubt_since=found.doubt_since,
            presentations=found.presentations,
            access_expires_at=found.access_expires_at,
            draw=self.draw(),
        )
        match plan:
            case PresentAgain(at=at):
                return at
            case GiveUp():
                return found.now  # whoever resumes it wants to know: one more probe, and its answer decides

    def _scheduled(self, found: PausedGrant, client: Client | None) -> datetime:
        if client is None or found.issued_at is None or found.access_expires_at is None:
            return found.now
        due = schedule.rotate_at(
            issued_at=found.issued_at,
            keep=client.keep,
            facts=client.provider.facts,
            access=found.access_expires_at - found.issued_at,
            refresh=None,
            draw=self.draw(),
        )
        return max(due, found.now)
