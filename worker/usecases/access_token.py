"""A fresh access token at any moment: the stored one, or one refresh, one flight per grant across processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from worker.domain.grant import ROTATED_STATES, GrantState
from worker.domain.outcome import Outcome, Rotated
from worker.domain.schedule import refused_until
from worker.domain.secret import Secret
from worker.oauth.client import Client
from worker.oauth.registry import Registry
from worker.storage.claim import Claims
from worker.storage.held_tokens import HeldToken, HeldTokens
from worker.usecases.rotate import Rotation, RotationResult
from worker.usecases.unreadable import put_off

#: How often a waiter looks whether the refresh of another process has been stored, seconds.
LOOK_EVERY: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshToken:
    """An access token that is valid for as long as was asked for, or as long as its provider lets it be."""

    access_token: Secret
    expires_at: datetime | None
    generation: int
    now: datetime = field(compare=False)  #: the database's clock when it was looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class NoSuchGrant:
    """There is no grant of that id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotKeptAlive:
    """The grant's state allows no refresh: its owner or an operator has to act first."""

    state: GrantState
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldBack:
    """The client is paused, throttled or its breaker is open; or another process did not finish in time."""

    client: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TooEarly:
    """The provider refuses to refresh this grant before then, by its facts."""

    at: datetime
    now: datetime = field(compare=False)  #: the database's clock when it was looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedLately:
    """The provider has refused the grant's refresh token, and is not asked again before then: it may be an error."""

    until: datetime
    now: datetime = field(compare=False)  #: the database's clock when it was looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshFailed:
    """The refresh was made and brought no tokens."""

    outcome: Outcome


@dataclass(slots=True, kw_only=True)
class _Flight:
    """One refresh of one grant, and how many in this process wait for it."""

    task: asyncio.Task[AccessTokenResult]
    waiting: int = 0


AccessTokenResult = FreshToken | NoSuchGrant | NotKeptAlive | HeldBack | TooEarly | RefusedLately | RefreshFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessTokens:
    """Hands out access tokens. `tick` is the monotonic clock in seconds."""

    held_tokens: HeldTokens
    claims: Claims
    rotation: Rotation
    registry: Registry
    lease: timedelta
    tick: Callable[[], float]
    #: By grant: of all who ask in this process one claims and looks, so that a crowd does not stand before the database
    #: when the answer is to be stored.
    flights: dict[UUID, _Flight] = field(default_factory=dict, init=False)

    async def fresh(self, grant_id: UUID, min_ttl: timedelta) -> AccessTokenResult:
        """Return an access token valid for at least `min_ttl`, refreshing the grant first where needed.

        Where the provider does not let it be refreshed yet, the stored one is returned as long as it is valid at all.

        Raises:
            ConfigurationError: when the grant's client is not configured.
            SealError: when the key ring does not open the stored token.

        """
        held = await self.held_tokens.of_grant(grant_id)
        return NoSuchGrant() if held is None else await self.fresh_of(held, min_ttl)

    async def fresh_of(self, held: HeldToken, min_ttl: timedelta) -> AccessTokenResult:
        """Return the same, for a grant whose stored token has just been read.

        Raises:
            ConfigurationError: when the grant's client is not configured.
            SealError: when the key ring does not open the stored token.

        """
        return _stored(held, min_ttl) or await self._refresh(held, min_ttl, force=False)

    async def refresh(self, grant_id: UUID) -> AccessTokenResult:
        """Refresh a grant now, whatever its access token's age, and return the new one.

        Raises:
            ConfigurationError: when the grant's client is not configured.
            SealError: when the key ring does not open the stored token.

        """
        held = await self.held_tokens.of_grant(grant_id)
        if held is None:
            return NoSuchGrant()
        return await self._refresh(held, timedelta(0), force=True)

    async def _refresh(self, held: HeldToken, min_ttl: timedelta, *, force: bool) -> AccessTokenResult:
        flight = self.flights.get(held.grant_id)
        if flight is None:
            flight = _Flight(task=asyncio.create_task(self._fly(held, min_ttl, force=force)))
            self.flights[held.grant_id] = flight
            flight.task.add_done_callback(lambda _task: self._land(held.grant_id, flight))
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        except asyncio.CancelledError:
            if flight.waiting == 1:  # nobody else waits for it
                self._land(held.grant_id, flight)
                flight.task.cancel()
                await asyncio.gather(flight.task, return_exceptions=True)
            raise
        finally:
            flight.waiting -= 1

    def _land(self, grant_id: UUID, flight: _Flight) -> None:
        if self.flights.get(grant_id) is flight:
            del self.flights[grant_id]

    async def _fly(self, held: HeldToken, min_ttl: timedelta, *, force: bool) -> AccessTokenResult:
        client = self.registry.client(held.client)
        deadline = self.tick() + self.lease.total_seconds()
        first_token = held.access_token
        while self.tick() < deadline:
            if held.state not in {GrantState.ACTIVE, GrantState.SUSPECT}:
                return NotKeptAlive(state=held.state, reason=held.state_reason)
            if not force and held.strikes and held.rotate_at is not None and held.now < held.rotate_at:
                # Asked at once, the provider would only say the same again.
                return RefusedLately(until=held.rotate_at, now=held.now)
            opens = _refused_until(held, client)
            found = await self._claim(held, client) if opens is None else _instead(held, opens, force=force)
            if found is not None:
                return found
            # Its provider does not take it yet, or somebody else is refreshing it right now: their result is ours, even
            # where it lives shorter than was asked for, since another refresh would bring the like.
            await asyncio.sleep(LOOK_EVERY)
            latest = await self.held_tokens.of_grant(held.grant_id)
            if latest is None:
                return NoSuchGrant()
            held = latest
            refreshed = held.access_token != first_token
            fresh = _stored(held, timedelta(0) if refreshed else min_ttl)
            if fresh is not None and (refreshed or not force):
                return fresh
        return HeldBack(client=client.name)

    async def _claim(self, held: HeldToken, client: Client) -> AccessTokenResult | None:
        """Refresh a grant, and return what came of it; None: somebody else has it."""
        if held.leased:
            return None
        claimed = await self.claims.claim_one(
            held.grant_id,
            client.name,
            generation=held.generation,
            rotated_at=held.rotated_at,
            limits=client.limits,
            lease=self.lease,
        )
        if claimed.grants:
            result = await _to_its_end(self.rotation.rotate(claimed.grants[0], client))
            return await self._after(held.grant_id, result.outcome)
        if claimed.held:
            return HeldBack(client=client.name)
        for unreadable in claimed.unreadable:
            await self.rotation.settles.settle(unreadable.lease, put_off(unreadable, self.rotation.draw()))
            raise unreadable.error
        return None

    async def _after(self, grant_id: UUID, outcome: Outcome) -> AccessTokenResult:
        held = await self.held_tokens.of_grant(grant_id)
        if held is None:
            return NoSuchGrant()
        stored = _stored(held, timedelta(0)) if isinstance(outcome, Rotated) else None
        return stored or RefreshFailed(outcome=outcome)


async def _to_its_end(rotation: Coroutine[Any, Any, RotationResult]) -> RotationResult:
    """Await a rotation; where the caller gives up meanwhile, by Ctrl-C or a closed connection, still finish it first.

    Its request may have left, and nobody else would store the answer.
    """
    flight = asyncio.ensure_future(rotation)
    try:
        return await asyncio.shield(flight)
    except asyncio.CancelledError:
        await asyncio.wait([flight])
        raise


def _refused_until(held: HeldToken, client: Client) -> datetime | None:
    """Return before when the provider would refuse a refresh; None: it takes one now."""
    facts = client.provider.facts
    opens = refused_until(facts, issued_at=held.issued_at, access_expires_at=held.access_expires_at)
    return opens if opens is not None and held.now < opens else None


def _instead(held: HeldToken, opens: datetime, *, force: bool) -> FreshToken | TooEarly | None:
    """Return what a caller gets whose refresh the provider would refuse; None: there is nothing, and he waits."""
    return TooEarly(at=opens, now=held.now) if force else _stored(held, timedelta(0))


def _stored(held: HeldToken, min_ttl: timedelta) -> FreshToken | None:
    """Return the stored access token where it is valid for long enough; one in doubt stays in service till its end."""
    if held.access_token is None or held.state not in ROTATED_STATES:
        return None
    # An adopted token whose end nobody has told may have ended long ago.
    if held.access_expires_at is None or held.access_expires_at < held.now + min_ttl:
        return None
    return FreshToken(
        access_token=held.access_token,
        expires_at=held.access_expires_at,
        generation=held.generation,
        now=held.now,
    )
