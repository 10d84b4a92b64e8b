"""The owner's consent: send the browser to the authorization server, check what comes back, store the grant.

RFC 6749 section 4.1. The state is random, single use, expiring, bound to the browser, and kept as a hash.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from worker.domain.outcome import Failure, Rotated
from worker.domain.secret import Secret
from worker.domain.settlement import store_tokens
from worker.oauth.authorization_request import authorization_url
from worker.oauth.captured import captured_from_redirect
from worker.oauth.client import Client
from worker.oauth.provider import Style
from worker.oauth.registry import Registry
from worker.oauth.token_endpoint import TokenEndpoint
from worker.storage.authorization_requests import AuthorizationRequests, PendingConsent, StateRefused
from worker.storage.away import until_taken
from worker.storage.consents import Arrival, Consents, NewGrant
from worker.storage.grants import Grants

#: How long an owner has to log in and decide.
CONSENT_LIFETIME: Final = timedelta(minutes=15)
#: 256 bits: nobody guesses a state or a browser's mark (RFC 6749 section 10.10).
RANDOM_BYTES: Final = 32
#: A name for a customer, not a document.
LONGEST_SUBJECT: Final = 200
#: How long the browser waits for a database that is away, seconds; after that the owner is asked to try again.
STORE_SECONDS: Final = 10.0
_LONGEST_PARAMETER: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentStarted:
    """Where the browser goes, and the mark that it must bring back."""

    location: Secret
    browser: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantStored:
    """The consent is complete."""

    grant_id: UUID
    client: str
    subject: str
    arrival: Arrival


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackMalformed:
    """The callback lacks a parameter that it must have, or brings it twice or far too long."""

    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentRefused:
    """The authorization server answered with an error, such as `access_denied` (RFC 6749 section 4.1.2.1)."""

    client: str
    subject: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongIssuer:
    """The answer names another authorization server than the one that was asked (RFC 9207 section 2.4)."""

    client: str
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeFailed:
    """The code did not bring tokens."""

    client: str
    subject: str
    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class NoRefreshToken:
    """The exchange brought an access token only: nothing that could be kept alive."""

    client: str
    subject: str


ConsentResult = (
    GrantStored | CallbackMalformed | StateRefused | ConsentRefused | WrongIssuer | ExchangeFailed | NoRefreshToken
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentFlow:
    """Begins and finishes consents. `random_bytes`, `new_id` and `draw` are chance, `tick` the monotonic clock."""

    registry: Registry
    requests: AuthorizationRequests
    consents: Consents
    grants: Grants
    token_endpoint: TokenEndpoint
    random_bytes: Callable[[int], bytes]
    new_id: Callable[[], UUID]
    draw: Callable[[], float]
    tick: Callable[[], float]

    async def begin(self, client_name: str, subject: str, email: str | None, browser: Secret | None) -> ConsentStarted:
        """Remember a consent under way and say where the browser goes.

        Args:
            client_name: whose registration is used.
            subject: the calling team's own name for the owner.
            email: where the owner can be reached, if known.
            browser: the mark that this browser has from an earlier consent, which it keeps.

        Raises:
            ConfigurationError: when the client is not configured.

        """
        client = self.registry.client(client_name)
        state = self._random()
        code_verifier = self._random() if client.provider.sends_pkce else None
        marked = browser or self._random()
        consent = PendingConsent(client=client.name, subject=subject, email=email, code_verifier=code_verifier)
        await self.requests.add(self.new_id(), state=state, browser=marked, consent=consent, lifetime=CONSENT_LIFETIME)
        return ConsentStarted(location=authorization_url(client, state, code_verifier), browser=marked)

    async def finish(self, parameters: Mapping[str, str], browser: Secret | None) -> ConsentResult:
        """Check what the browser brought back, exchange the code and store the grant.

        Raises:
            ConfigurationError: when the client is no longer configured.

        """
        malformed = _malformed(parameters, self._code_names())
        if malformed is not None:
            return malformed
        consent = await self.requests.use(state=Secret(parameters["state"]), browser=browser)
        if isinstance(consent, StateRefused):
            return consent
        client = self.registry.client(consent.client)
        issuer = parameters.get("iss")
        if client.provider.issuer is not None and issuer is not None and issuer != client.provider.issuer:
            return WrongIssuer(client=consent.client, subject=consent.subject)
        if "error" in parameters:
            return ConsentRefused(
                client=consent.client, subject=consent.subject, error=_error_code(parameters["error"])
            )
        code = parameters.get(client.provider.redirect.code)
        if code is None:
            return CallbackMalformed(what=f"{client.provider.redirect.code} is missing")
        captured = captured_from_redirect(client.provider, parameters)
        return await self._exchange(client, consent, Secret(code), captured)

    def _code_names(self) -> frozenset[str]:
        return frozenset({"code", *(client.provider.redirect.code for client in self.registry.clients.values())})

    async def _exchange(
        self, client: Client, consent: PendingConsent, code: Secret, captured: Mapping[str, str]
    ) -> ConsentResult:
        asked_at, asked_tick = await self.grants.now(), self.tick()
        answer = await self.token_endpoint.exchange_code(client, code, consent.code_verifier, captured=captured)
        outcome = answer.outcome
        if not isinstance(outcome, Rotated):
            return ExchangeFailed(client=consent.client, subject=consent.subject, failure=outcome)
        refresh_token = outcome.tokens.refresh_token
        if refresh_token is None and client.provider.style is Style.NO_REFRESH:
            refresh_token = outcome.tokens.access_token  # it is all that there is, and it does not end
        if refresh_token is None:
            return NoRefreshToken(client=consent.client, subject=consent.subject)
        issued_at = asked_at + timedelta(seconds=answer.sent_tick - asked_tick)
        stored = store_tokens(
            outcome.tokens,
            facts=client.provider.facts,
            keep=client.keep,
            issued_at=issued_at,
            consented_at=issued_at,
            draw=self.draw(),
        )
        grant = NewGrant(
            client=client.name,
            subject=consent.subject,
            refresh_token=refresh_token,
            access_token=outcome.tokens.access_token,
            issued_at=stored.issued_at,
            access_expires_at=stored.access_expires_at,
            refresh_expires_at=stored.refresh_expires_at,
            rotate_at=stored.rotate_at,
            scopes=outcome.tokens.scopes or client.scopes or None,
            email=consent.email,
            account=outcome.tokens.account,
            captured={**captured, **outcome.tokens.captured},
        )
        new_id = self.new_id()
        # The code is spent: what it brought is stored even if the database is away for a moment.
        grant_id, arrival = await until_taken(
            lambda: self.consents.store_consent(new_id, grant, issued_at), seconds=STORE_SECONDS
        )
        return GrantStored(grant_id=grant_id, client=client.name, subject=consent.subject, arrival=arrival)

    def _random(self) -> Secret:
        return Secret(base64.urlsafe_b64encode(self.random_bytes(RANDOM_BYTES)).rstrip(b"=").decode("ascii"))


def _malformed(parameters: Mapping[str, str], code_names: Collection[str]) -> CallbackMalformed | None:
    if not parameters.get("state"):
        return CallbackMalformed(what="state is missing")
    if any(name in parameters for name in code_names) == ("error" in parameters):
        return CallbackMalformed(what="there must be either code or error")
    if any(len(value) > _LONGEST_PARAMETER for value in parameters.values()):
        return CallbackMalformed(what="a parameter is too long")
    return None


def _error_code(text: str) -> str:
    """Return the error code as RFC 6749 section 4.1.2.1 allows it, or a word for one that it does not."""
    kept = "".join(character for character in text[:64] if character.isascii() and character.isprintable())
    return kept if kept == text else "unreadable_error"
