"""The owner's consent: send the browser to the authorization server, check what comes back, store the grant.

RFC 6749 section 4.1. The state is random, single use, expiring, bound to the browser, and kept as a hash.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol
from uuid import UUID

from worker.domain.secret import Secret
from worker.oauth.authorization_request import Expected, authorization_url, hints_email
from worker.oauth.client import Client
from worker.oauth.id_token import nonce_of, sends_nonce
from worker.oauth.issuer import is_mixed_up
from worker.oauth.registry import Registry
from worker.storage.authorization_requests import (
    Asked,
    AuthorizationRequests,
    PendingConsent,
    StateRefused,
    TookTooLong,
    UsedBefore,
)
from worker.storage.away import AWAY
from worker.storage.grants import Grants
from worker.usecases.code_exchange import CodeExchange
from worker.usecases.consent_results import (
    CallbackMalformed,
    ConsentEnd,
    ConsentRefused,
    ConsentResult,
    ConsentStarted,
    Ending,
    ErrorWithoutState,
    Replayed,
    WrongIssuer,
    end_of,
    why,
)

#: How long an owner has to log in and decide.
CONSENT_LIFETIME: Final = timedelta(minutes=15)
#: 256 bits: nobody guesses a state or a browser's mark (RFC 6749 section 10.10).
RANDOM_BYTES: Final = 32
#: A name for a customer, not a document.
LONGEST_SUBJECT: Final = 200
#: How long the second of two callbacks with the same state waits to hear what came of the first, seconds.
REPLAY_SECONDS: Final = 15.0
#: How often it looks, seconds.
_LOOK_EVERY: Final = 0.1
_LONGEST_PARAMETER: Final = 4096


class ConsentObserver(Protocol):
    """Is told how consents end. Its methods are quick and raise nothing."""

    def consent_ended(self, client: str, end: ConsentEnd, reason: str | None) -> None:
        """Hear how a consent ended, and why where it did not connect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentFlow:
    """Begins and finishes consents. `random_bytes` and `new_id` are chance, `tick` the monotonic clock in seconds."""

    registry: Registry
    requests: AuthorizationRequests
    exchange: CodeExchange
    grants: Grants
    observer: ConsentObserver
    random_bytes: Callable[[int], bytes]
    new_id: Callable[[], UUID]
    tick: Callable[[], float]

    def may_return(self, client_name: str, return_to: str) -> bool:
        """Tell whether a client's owners may be sent on to an address: exactly as it is written in `return_urls`."""
        client = self.registry.clients.get(client_name)
        return client is not None and return_to in client.return_urls

    async def begin(
        self, client_name: str, subject: str, email: str | None, browser: Secret | None, return_to: str | None = None
    ) -> ConsentStarted:
        """Remember a consent under way and say where the browser goes.

        Args:
            client_name: whose registration is used.
            subject: the calling team's own name for the owner.
            email: where the owner can be reached, if known.
            browser: the mark that this browser has from an earlier consent, which it keeps.
            return_to: where the owner goes on to; what `may_return` does not allow is left out. None: the first of the
                client's `return_urls`, if any.

        Raises:
            ConfigurationError: when the client is not configured.

        """
        client = self.registry.client(client_name)
        state = self._random()
        code_verifier = self._random() if client.provider.sends_pkce else None
        marked = browser or self._random()
        going_on = next(iter(client.return_urls), None) if return_to is None else return_to
        asked = Asked(client=client.name, subject=subject, email=email, return_to=going_on)
        consent = PendingConsent(asked=asked, code_verifier=code_verifier)
        expected = Expected(subject=subject, email=email or await self._known_email(client, subject))
        nonce = _nonce(client, state)
        location = authorization_url(client, state, code_verifier, nonce=nonce, expected=expected)
        await self.requests.add(self.new_id(), state=state, browser=marked, consent=consent, lifetime=CONSENT_LIFETIME)
        return ConsentStarted(location=location, browser=marked)

    async def finish(self, parameters: Mapping[str, str], browser: Secret | None) -> ConsentResult:
        """Check what the browser brought back, exchange the code and store the grant.

        Raises:
            ConfigurationError: when the client is no longer configured.

        """
        malformed = _malformed(parameters, self._code_names())
        if malformed is not None:
            return malformed
        state = Secret(parameters["state"])
        match await self.requests.use(state=state, browser=browser):
            case PendingConsent() as consent:
                return await self._end(state, consent, parameters)
            case UsedBefore(asked=asked):
                return Replayed(asked=asked, ended=await self._wait_for_end(state))
            case TookTooLong() | StateRefused() as refused:
                return refused

    async def _end(self, state: Secret, consent: PendingConsent, parameters: Mapping[str, str]) -> Ending:
        end, reason = ConsentEnd.FAILED, None
        try:
            result = await self._answered(state, consent, parameters)
            end, reason = end_of(result), why(result)
        finally:
            self.observer.consent_ended(consent.asked.client, end, reason)
            with suppress(*AWAY):  # whoever comes again then reads that it is not known
                await self.requests.end(state, end.value)
        return result

    async def _answered(self, state: Secret, consent: PendingConsent, parameters: Mapping[str, str]) -> Ending:
        client, asked = self.registry.client(consent.asked.client), consent.asked
        others = (other.provider for other in self.registry.clients.values())
        if is_mixed_up(client.provider, parameters.get("iss"), others):
            return WrongIssuer(asked=asked)
        if "error" in parameters:
            return ConsentRefused(asked=asked, error=_error_code(parameters["error"]))
        if client.provider.redirect.code not in parameters:
            return CallbackMalformed(what=f"{client.provider.redirect.code} is missing")
        return await self.exchange.complete(client, consent, parameters, _nonce(client, state))

    async def _known_email(self, client: Client, subject: str) -> str | None:
        """Return where the owner of a grant can be reached, if the provider is to be told."""
        found = await self.grants.find(client.name, subject) if hints_email(client) else None
        return found.email if found is not None else None

    async def _wait_for_end(self, state: Secret) -> ConsentEnd | None:
        """Return what came of a consent whose first callback may still be under way."""
        deadline = self.tick() + REPLAY_SECONDS
        ended = await self.requests.ended(state)
        while ended is None and self.tick() < deadline:
            await asyncio.sleep(_LOOK_EVERY)
            ended = await self.requests.ended(state)
        return ConsentEnd(ended) if ended is not None else None

    def _code_names(self) -> frozenset[str]:
        return frozenset({"code", *(client.provider.redirect.code for client in self.registry.clients.values())})

    def _random(self) -> Secret:
        return Secret(base64.urlsafe_b64encode(self.random_bytes(RANDOM_BYTES)).rstrip(b"=").decode("ascii"))


def _nonce(client: Client, state: Secret) -> Secret | None:
    return nonce_of(state) if sends_nonce(client) else None


def _malformed(
    parameters: Mapping[str, str], code_names: Collection[str]
) -> CallbackMalformed | ErrorWithoutState | None:
    if any(len(value) > _LONGEST_PARAMETER for value in parameters.values()):
        return CallbackMalformed(what="a parameter is too long")
    has_code = any(name in parameters for name in code_names)
    if not parameters.get("state"):
        is_error = "error" in parameters and not has_code
        return (
            ErrorWithoutState(error=_error_code(parameters["error"]))
            if is_error
            else CallbackMalformed(what="state is missing")
        )
    if has_code == ("error" in parameters):
        return CallbackMalformed(what="there must be either code or error")
    return None


def _error_code(text: str) -> str:
    """Return the error code as RFC 6749 section 4.1.2.1 allows it, or a word for one that it does not."""
    kept = "".join(character for character in text[:64] if character.isascii() and character.isprintable())
    return kept if kept == text else "unreadable_error"
