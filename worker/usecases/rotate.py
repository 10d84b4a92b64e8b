"""Rotate one claimed grant: refresh, decide, settle. The claim before this has recorded the spend.

Nothing is held while the request is under way: no lock, no transaction, no connection. The next thing after an answer
is its commit; metrics, logs and the client's breaker come after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from tenacity import AsyncRetrying, retry_if_result, stop_after_attempt, stop_after_delay, wait_random_exponential

from worker.domain.client_health import CloseBreaker, OpenBreaker, Throttle, client_effect, unread_in_a_row
from worker.domain.facts import OldToken
from worker.domain.grant import ClaimedGrant, GrantState
from worker.domain.outcome import Cause, Dead, InDoubt, Outcome, Reason, Rotated, Tokens, Unavailable
from worker.domain.secret import Secret
from worker.domain.settlement import RequireReconsent, Settlement, StoreTokens, decide
from worker.oauth.client import Client
from worker.oauth.provider_kinds import Revocation
from worker.oauth.token_endpoint import TokenAnswer, TokenEndpoint
from worker.oauth.token_tools import Introspected, TokenTools
from worker.storage.client_status import ClientStatuses
from worker.storage.settle_queue import Settled, SettleQueue, Stored
from worker.usecases.observer import RotationObserver

#: Tries of a request that provably did not leave; the lease and the next tick take it from there.
CONNECT_TRIES: Final = 3
#: Longest pause between such tries, seconds.
CONNECT_PAUSE: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationResult:
    """What one rotation came to, and whether it was stored."""

    outcome: Outcome
    settlement: Settlement
    settled: Settled


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """Rotates claimed grants. `tick` is the monotonic clock in seconds, `draw` is chance in [0, 1)."""

    token_endpoint: TokenEndpoint
    token_tools: TokenTools
    settles: SettleQueue
    statuses: ClientStatuses
    observer: RotationObserver
    tick: Callable[[], float]
    draw: Callable[[], float]
    unread: dict[str, int] = field(default_factory=dict)  #: by client: requests in a row without a readable answer

    async def rotate(
        self, grant: ClaimedGrant, client: Client, answered: Callable[[], None] = lambda: None
    ) -> RotationResult:
        """Refresh one claimed grant and store what came of it.

        Args:
            grant: whose refresh token is presented.
            client: its client.
            answered: told when the request is no longer under way, before the outcome is stored.

        Raises:
            SQLAlchemyError: when the database refuses to store the outcome.

        """
        try:
            answer = await self._refresh(grant, client)
        finally:
            answered()
        settlement = decide(
            answer.outcome,
            grant=grant,
            facts=client.provider.facts,
            keep=client.keep,
            issued_at=database_instant(grant, answer.sent_tick),
            now=database_instant(grant, answer.answered_tick),
            draw=self.draw(),
        )
        try:
            stored = await self.settles.commit(grant.lease, settlement, grant.refresh_token)
        except BaseException as error:
            self.observer.settle_failed(grant, answer.outcome, error, kept=self.settles.is_kept(grant.lease))
            raise
        settled = stored.settled
        self._tell(grant, client, answer, settlement, stored)
        await self._affect_client(grant, answer.outcome)
        if settled is Settled.SUPERSEDED:
            await self._give_back(grant, client, answer.outcome)
        if settled is Settled.SUSPECTED:
            self.observer.braked(grant.client)
        return RotationResult(outcome=answer.outcome, settlement=settlement, settled=settled)

    async def _refresh(self, grant: ClaimedGrant, client: Client) -> TokenAnswer:
        if not client.provider.facts.is_refreshed and grant.access_token is not None:
            tick = self.tick()
            kept = Tokens(access_token=grant.access_token, refresh_token=None, access_lifetime=None)
            return TokenAnswer(outcome=Rotated(tokens=kept), sent_tick=tick, answered_tick=tick)
        learned = await self._ask_about_doubt(grant, client)
        if learned is not None:
            tick = self.tick()
            return TokenAnswer(outcome=learned, sent_tick=tick, answered_tick=tick)
        answer = await self._refresh_once(grant, client)
        if not answer.did_not_leave:
            return answer
        # Built only after a first failure. It repeats nothing but requests that did not leave this machine.
        retrying = AsyncRetrying(
            retry=retry_if_result(lambda found: found.did_not_leave),
            stop=stop_after_attempt(CONNECT_TRIES - 1) | stop_after_delay(client.provider.request_timeout / 2),
            wait=wait_random_exponential(multiplier=0.1, max=CONNECT_PAUSE),
            retry_error_callback=lambda state: state.outcome.result() if state.outcome is not None else answer,
        )
        await asyncio.sleep(CONNECT_PAUSE * self.draw())
        last: TokenAnswer = await retrying(self._refresh_once, grant, client)
        return last

    async def _ask_about_doubt(self, grant: ClaimedGrant, client: Client) -> Outcome | None:
        """Learn of a doubtful token what can be learned without presenting it; None: it is to be presented."""
        facts = client.provider.facts
        if not grant.is_doubtful or not facts.is_asked_about_first:
            return None
        spent = Dead(cause=Cause(reason=Reason.INVALID_GRANT))
        match await self.token_tools.introspect(client, grant.refresh_token, captured=grant.captured):
            case Introspected.GOOD:
                return None
            case Introspected.SPENT:
                return spent
            case Introspected.UNKNOWN:
                now = database_instant(grant, self.tick())
                if grant.access_expires_at is not None and grant.access_expires_at > now:
                    return Unavailable(cause=Cause(reason=Reason.TEMPORARILY_UNAVAILABLE))
                return None

    async def _refresh_once(self, grant: ClaimedGrant, client: Client) -> TokenAnswer:
        now = self.tick()
        if not lease_covers(grant, client, now):
            # This process was stopped for a while. Its lease may be rescued before an answer could be stored.
            cause = Cause(reason=Reason.LEASE_TOO_SHORT)
            return TokenAnswer(outcome=Unavailable(cause=cause), sent_tick=now, answered_tick=now)
        try:
            return await self.token_endpoint.refresh(
                client, grant.refresh_token, access_token=grant.access_token, captured=grant.captured
            )
        except Exception as error:  # noqa: BLE001 -- the request may have left, and the row must say so
            self.observer.refresh_raised(grant, error)
            in_doubt = InDoubt(cause=Cause(reason=Reason.NO_ANSWER))
            return TokenAnswer(outcome=in_doubt, sent_tick=now, answered_tick=self.tick())

    async def _give_back(self, grant: ClaimedGrant, client: Client, outcome: Outcome) -> None:
        """Revoke a token that came too late to be stored, where that does not end the newer one as well."""
        match outcome:
            case Rotated(tokens=Tokens(refresh_token=Secret() as unused)):
                # A provider that answers twice within a grace gives the same tokens twice: then this is the one in use,
                # and so it is where none is new. Only where one presentation alone can bring tokens is it surely not.
                single_use = client.provider.facts.old_token is OldToken.INVALIDATED
                if client.provider.revocation is Revocation.TOKEN and single_use and unused != grant.refresh_token:
                    await self.token_tools.revoke(client, unused, captured=grant.captured)
            case _:
                pass

    async def _affect_client(self, grant: ClaimedGrant, outcome: Outcome) -> None:
        if grant.state is GrantState.SUSPECT and isinstance(outcome, Rotated):
            await self.statuses.suspect_refreshed(grant.client)
        unread = self.unread[grant.client] = unread_in_a_row(self.unread.get(grant.client, 0), outcome)
        match client_effect(outcome, unread=unread, is_canary=grant.is_canary):
            case OpenBreaker(cause=cause, wait=wait):
                if await self.statuses.open_breaker(grant.client, cause, wait):
                    self.observer.breaker_changed(grant.client, is_open=True, reason=cause.reason)
                elif grant.is_canary:
                    await self.statuses.canary_failed(grant.client, cause)
            case CloseBreaker() if grant.is_canary:
                if await self.statuses.close_breaker(grant.client):
                    self.observer.breaker_changed(grant.client, is_open=False, reason=Reason.OK)
            case Throttle(wait=wait):
                await self.statuses.throttle(grant.client, wait)
            case CloseBreaker() | None:
                pass

    def _tell(
        self, grant: ClaimedGrant, client: Client, answer: TokenAnswer, settlement: Settlement, stored: Stored
    ) -> None:
        settled = stored.settled
        sent_at = database_instant(grant, answer.sent_tick)
        late = max(sent_at - grant.rotate_at, timedelta(0)) if grant.rotate_at is not None else timedelta(0)
        seconds = answer.answered_tick - answer.sent_tick
        if settled is Settled.SUPERSEDED:
            self.observer.superseded(grant, answer.outcome)
            return
        self.observer.refreshed(grant, answer.outcome, seconds=seconds, late=late)
        self.observer.settled(grant, seconds=stored.tick - answer.answered_tick)
        if answer.provider_date is not None:
            skew = answer.provider_date - database_instant(grant, answer.answered_tick)
            self.observer.clock_skew(client.provider.name, skew.total_seconds())
        match settlement:
            case RequireReconsent(cause=cause) if settled is Settled.STORED:
                self.observer.died(grant.client, cause.reason)
                if grant.is_doubtful:
                    self.observer.doubt_ended(grant.client, "reconsent_required")
            case StoreTokens() if grant.is_doubtful:
                self.observer.doubt_ended(grant.client, "rotated")
            case _:
                pass


def database_instant(grant: ClaimedGrant, tick: float) -> datetime:
    """Return a monotonic reading as an instant on the database's clock, at most as late as it really was."""
    return grant.claimed_at + timedelta(seconds=tick - grant.claimed_tick)


def lease_covers(grant: ClaimedGrant, client: Client, tick: float) -> bool:
    """Tell whether the lease will outlive a request that leaves now."""
    longest = client.provider.request_timeout * max(1, len(client.client_secrets))
    return database_instant(grant, tick) + longest < grant.leased_until
