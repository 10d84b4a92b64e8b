"""From a code to a stored grant: exchange it, see whose account it is for, store the tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from tenacity import AsyncRetrying, retry_if_result, stop_after_attempt, wait_random_exponential

from worker.domain.account import ToldAccount
from worker.domain.outcome import Rotated
from worker.domain.secret import Secret
from worker.domain.settlement import store_tokens
from worker.oauth.account import Accounts, Consented
from worker.oauth.captured import captured_from_redirect
from worker.oauth.client import Client
from worker.oauth.id_token import IdTokenRefused
from worker.oauth.provider_kinds import Style
from worker.oauth.token_endpoint import TokenAnswer, TokenEndpoint
from worker.storage.authorization_requests import Asked, PendingConsent
from worker.storage.consents import AccountRefused, StoredConsent
from worker.storage.grants import Grants
from worker.storage.new_grants import NewGrant
from worker.usecases.consent_results import (
    Ending,
    ExchangeFailed,
    GrantKept,
    GrantStored,
    IdTokenInvalid,
    NoRefreshToken,
    NotStored,
    NotTheAccount,
)
from worker.usecases.give_back import replaced, unwanted
from worker.usecases.store_consent import ConsentKept, ConsentStore

#: Tries of an exchange that provably did not leave: an owner waits, and the code is still good.
CONNECT_TRIES: Final = 3
#: Longest pause between such tries, seconds.
CONNECT_PAUSE: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeExchange:
    """Completes consents. `new_id` and `draw` are chance, `tick` the monotonic clock in seconds."""

    token_endpoint: TokenEndpoint
    accounts: Accounts
    grants: Grants
    store: ConsentStore
    new_id: Callable[[], UUID]
    draw: Callable[[], float]
    tick: Callable[[], float]

    async def complete(
        self, client: Client, consent: PendingConsent, parameters: Mapping[str, str], nonce: Secret | None
    ) -> Ending:
        """Exchange the code that a callback brought and store what comes of it.

        Args:
            client: that asked.
            consent: what was asked for.
            parameters: the callback's, with the code among them.
            nonce: what the ID token must bring back, where one was asked for.

        """
        asked, captured = consent.asked, captured_from_redirect(client.provider, parameters)
        asked_at, asked_tick = await self.grants.now(), self.tick()
        code = Secret(parameters[client.provider.redirect.code])
        answer = await self._exchange(client, code, consent.code_verifier, captured)
        outcome = answer.outcome
        if not isinstance(outcome, Rotated):
            return ExchangeFailed(asked=asked, failure=outcome)
        tokens = outcome.tokens
        refresh_token = tokens.refresh_token
        if refresh_token is None and client.provider.style is Style.NO_REFRESH:
            refresh_token = tokens.access_token  # it is all that there is, and it does not end
        if refresh_token is None:
            return NoRefreshToken(asked=asked)
        issued_at = asked_at + timedelta(seconds=answer.sent_tick - asked_tick)
        kept = {**captured, **tokens.captured}
        consented = Consented(tokens=tokens, redirect=parameters, captured=kept, nonce=nonce, asked_at=asked_at)
        told = await self.accounts.tell(client, consented)
        account = told if isinstance(told, ToldAccount) else ToldAccount()
        grant = self._grant(client, asked, consented, refresh_token=refresh_token, issued_at=issued_at, account=account)
        if isinstance(told, IdTokenRefused):
            unneeded = unwanted(client, grant, account)
            return IdTokenInvalid(asked=asked, claim=told.claim, found_issuer=told.found, unneeded=unneeded)
        return await self._store(client, asked, grant, issued_at)

    async def _exchange(
        self, client: Client, code: Secret, code_verifier: Secret | None, captured: Mapping[str, str]
    ) -> TokenAnswer:
        """Exchange the code; what did not leave is sent again, and nothing else, for a code is good once."""
        retrying = AsyncRetrying(
            retry=retry_if_result(lambda found: found.did_not_leave),
            stop=stop_after_attempt(CONNECT_TRIES),
            wait=wait_random_exponential(multiplier=0.1, max=CONNECT_PAUSE),
            retry_error_callback=lambda state: state.outcome.result() if state.outcome is not None else None,
        )
        answer: TokenAnswer = await retrying(
            self.token_endpoint.exchange_code, client, code, code_verifier, captured=captured
        )
        return answer

    def _grant(
        self,
        client: Client,
        asked: Asked,
        consented: Consented,
        *,
        refresh_token: Secret,
        issued_at: datetime,
        account: ToldAccount,
    ) -> NewGrant:
        tokens = consented.tokens
        stored = store_tokens(
            tokens,
            facts=client.provider.facts,
            keep=client.keep,
            issued_at=issued_at,
            consented_at=issued_at,
            draw=self.draw(),
        )
        return NewGrant(
            client=client.name,
            subject=asked.subject,
            refresh_token=refresh_token,
            access_token=tokens.access_token,
            issued_at=stored.issued_at,
            access_expires_at=stored.access_expires_at,
            refresh_expires_at=stored.refresh_expires_at,
            rotate_at=stored.rotate_at,
            scopes=tokens.scopes or client.scopes or None,
            requested=client.scopes,
            email=asked.email,
            account=account,
            captured=consented.captured,
        )

    async def _store(self, client: Client, asked: Asked, grant: NewGrant, issued_at: datetime) -> Ending:
        match await self.store.store(self.new_id(), grant, issued_at):
            case StoredConsent(grant_id=grant_id, arrival=arrival, state=state, replaced=former):
                return GrantStored(
                    asked=asked,
                    grant_id=grant_id,
                    arrival=arrival,
                    state=state,
                    unneeded=replaced(client, former, grant),
                )
            case AccountRefused(grant_id=grant_id, check=check, stored=stored):
                unneeded = unwanted(client, grant, grant.account, stored)
                return NotTheAccount(asked=asked, grant_id=grant_id, check=check, unneeded=unneeded)
            case ConsentKept():
                return GrantKept(asked=asked)
            case None:
                return NotStored(asked=asked, unneeded=unwanted(client, grant, ToldAccount()))
