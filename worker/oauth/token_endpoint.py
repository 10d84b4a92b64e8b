"""Asking the token endpoint, and saying what its answer means.

A request either did not leave this machine, or it may have: nothing here ever repeats one that may have.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

import httpx

from worker.domain.outcome import Cause, InDoubt, Misconfigured, Outcome, Reason, Rotated, Tokens, Unavailable
from worker.domain.secret import Secret
from worker.oauth.classify import classify
from worker.oauth.client import Client
from worker.oauth.client_authentication import Stamp
from worker.oauth.exchange import UnansweredError, exchange, sent_headers
from worker.oauth.http_client import Departure, departure
from worker.oauth.http_pool import PrivateAddressError
from worker.oauth.provider_steps import ClientAuth, TokenStep
from worker.oauth.reading import Readings
from worker.oauth.refresh_requests import RefreshRequests
from worker.oauth.request_values import NothingToRefreshError, UnfilledError
from worker.oauth.token_answer import read_date
from worker.oauth.token_request import (
    NO_STAMP,
    Given,
    TokenRequest,
    code_request,
    upgrade_request,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAnswer:
    """The outcome of one request, with the monotonic readings (seconds) that lifetimes and metrics count from."""

    outcome: Outcome
    sent_tick: float
    answered_tick: float
    provider_date: datetime | None = None  #: the answer's `Date`

    @property
    def did_not_leave(self) -> bool:
        """Whether the request provably never left this machine, so that it may be sent again."""
        match self.outcome:
            case Unavailable(cause=Cause(reason=Reason.CONNECT)):
                return True
            case _:
                return False


class TokenEndpoint:
    """The token endpoints of all providers, through one HTTP client.

    Args:
        http: made by `create_http_client`, whose connections report a request's departure.
        tick: the monotonic clock, in seconds.
        stamp: gives time and chance for one client assertion (`private_key_jwt`); without it none can be made.

    """

    def __init__(
        self, http: httpx.AsyncClient, tick: Callable[[], float], stamp: Callable[[], Stamp] | None = None
    ) -> None:
        self._http = http
        self._tick = tick
        self._stamp = stamp
        self._readings = Readings()
        self._refreshes = RefreshRequests(partial(sent_headers, http))

    async def refresh(
        self,
        client: Client,
        refresh_token: Secret,
        *,
        access_token: Secret | None = None,
        captured: Mapping[str, str] | None = None,
    ) -> TokenAnswer:
        """Present a refresh token (RFC 6749 section 6) and return what came of it. Raises nothing expected.

        Args:
            client: whose grant it is.
            refresh_token: what is presented.
            access_token: the grant's current one, for providers that want to see it too.
            captured: what was kept of the grant's redirect and answers.

        """
        given = Given(access_token=access_token, captured=captured or {})
        return await self._ask_with_each_secret(
            client,
            client.provider.refresh,
            lambda secret, stamp: self._refreshes.build(
                client, refresh_token, secret, given if stamp is NO_STAMP else replace(given, stamp=stamp)
            ),
        )

    async def exchange_code(
        self,
        client: Client,
        code: Secret,
        code_verifier: Secret | None,
        *,
        captured: Mapping[str, str] | None = None,
    ) -> TokenAnswer:
        """Exchange an authorization code (RFC 6749 section 4.1.3) and return what came of it.

        Where the code brings a token that cannot be kept alive, it is exchanged once more, and that answer is returned.
        """
        given, step = Given(captured=captured or {}), client.provider.upgrade
        answer = await self._ask_with_each_secret(
            client,
            client.provider.code,
            lambda secret, stamp: code_request(client, code, code_verifier, secret, replace(given, stamp=stamp)),
        )
        if step is None or not isinstance(answer.outcome, Rotated):
            return answer
        return await self._upgrade(client, step, answer.outcome.tokens, given)

    async def _upgrade(self, client: Client, step: TokenStep, first: Tokens, given: Given) -> TokenAnswer:
        answer = await self._ask_with_each_secret(
            client,
            step,
            lambda secret, stamp: upgrade_request(
                client, step, first.access_token, secret, replace(given, stamp=stamp)
            ),
        )
        match answer.outcome:
            case Rotated(tokens=tokens):
                # The second answer need not repeat what the first one said of the owner.
                tokens = replace(
                    tokens,
                    scopes=tokens.scopes or first.scopes,
                    account=tokens.account or first.account,
                    id_token=tokens.id_token or first.id_token,
                    captured={**first.captured, **tokens.captured},
                )
                return replace(answer, outcome=Rotated(tokens=tokens))
            case _:
                return answer

    async def _ask_with_each_secret(
        self, client: Client, step: TokenStep, build: Callable[[Secret | None, Stamp], TokenRequest]
    ) -> TokenAnswer:
        secrets = client.client_secrets or (None,)
        answer = await self._ask(client, step, build, secrets[0])
        for secret in secrets[1:]:
            # Only a plain `invalid_client` lets the next secret be tried: the token was not looked at. Anything
            # ambiguous must not present it twice.
            match answer.outcome:
                case Misconfigured(cause=Cause(reason=Reason.INVALID_CLIENT, code=str() as code)) if (
                    code in client.provider.client_secret_codes
                ):
                    answer = await self._ask(client, step, build, secret)
                case _:
                    break
        return answer

    def _stamp_for(self, client: Client, step: TokenStep) -> Stamp:
        is_signed = (step.client_auth or client.provider.client_auth) is ClientAuth.PRIVATE_KEY_JWT
        return self._stamp() if is_signed and self._stamp is not None else NO_STAMP

    async def _ask(
        self,
        client: Client,
        step: TokenStep,
        build: Callable[[Secret | None, Stamp], TokenRequest],
        secret: Secret | None,
    ) -> TokenAnswer:
        sent_tick = self._tick()
        try:
            request = build(secret, self._stamp_for(client, step))
        except Exception as error:  # noqa: BLE001 -- whatever keeps a request from being built, nothing has left
            return TokenAnswer(outcome=_unbuilt(error), sent_tick=sent_tick, answered_tick=sent_tick)
        meaning = partial(
            classify,
            facts=client.provider.facts,
            secrets=request.secrets,
            reading=self._readings.of(client.provider, step),
        )
        watched = Departure()
        token = departure.set(watched)
        try:
            answer = await exchange(self._http, request, client.provider.request_timeout.total_seconds())
        except UnansweredError as error:
            answered_tick = self._tick()
            # Tokens that stand in what was read are there, however the connection ended. Nothing else is believed.
            part = meaning(error.read) if error.read is not None else None
            outcome = part if isinstance(part, Rotated) else _unanswered(error.__cause__, watched)
            headers = error.read.headers if error.read is not None else {}
        else:
            answered_tick = self._tick()
            outcome, headers = meaning(answer), answer.headers
        finally:
            departure.reset(token)
        return TokenAnswer(
            outcome=outcome,
            sent_tick=sent_tick,
            answered_tick=answered_tick,
            provider_date=read_date(headers),
        )


def _unbuilt(error: Exception) -> Unavailable:
    match error:
        case UnfilledError(name=name):
            code: str | None = name
        case NothingToRefreshError():
            code = "nothing_to_refresh"
        case _:
            code = None
    return Unavailable(cause=Cause(reason=Reason.REQUEST_INCOMPLETE, code=code))


def _unanswered(error: BaseException | None, watched: Departure) -> Outcome:
    if not watched.may_have_left:
        if _is_caused_by(error, PrivateAddressError):
            return Misconfigured(cause=Cause(reason=Reason.PRIVATE_ADDRESS))
        if _is_caused_by(error, ssl.SSLError, ssl.CertificateError):
            return Misconfigured(cause=Cause(reason=Reason.TLS))
        if _is_caused_by(error, httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError):
            # No name that could be looked up. The configuration is held to that, but the libraries have the last word.
            return Misconfigured(cause=Cause(reason=Reason.ENDPOINT_NOT_FOUND))
        return Unavailable(cause=Cause(reason=Reason.CONNECT))
    timed_out = isinstance(error, TimeoutError | httpx.ReadTimeout | httpx.WriteTimeout)
    return InDoubt(cause=Cause(reason=Reason.TIMEOUT if timed_out else Reason.NO_ANSWER))


def _is_caused_by(error: BaseException | None, *kinds: type[BaseException]) -> bool:
    while error is not None:
        if isinstance(error, kinds):
            return True
        error = error.__cause__ or getattr(error, "os_error", None)
    return False
