"""Asking the token endpoint, and saying what its answer means.

A request either did not leave this machine, or it may have: nothing here ever repeats one that may have.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

import aiohttp
import httpx

from worker.domain.outcome import Cause, InDoubt, Misconfigured, Outcome, Reason, Unavailable
from worker.domain.secret import Secret
from worker.oauth.classify import classify
from worker.oauth.client import Client
from worker.oauth.http_client import Departure, departure
from worker.oauth.post import post
from worker.oauth.token_answer import read_date
from worker.oauth.token_request import TokenRequest, code_request, refresh_request


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAnswer:
    """The outcome of one request, with the monotonic readings (seconds) that lifetimes and metrics count from."""

    outcome: Outcome
    sent_tick: float
    answered_tick: float
    provider_date: datetime | None = None  #: the answer's `Date`


class TokenEndpoint:
    """The token endpoints of all providers, through one HTTP client.

    Args:
        http: made by `create_http_client`, whose connections report a request's departure.
        tick: the monotonic clock, in seconds.

    """

    def __init__(self, http: httpx.AsyncClient, tick: Callable[[], float]) -> None:
        self._http = http
        self._tick = tick

    async def refresh(self, client: Client, refresh_token: Secret) -> TokenAnswer:
        """Present a refresh token (RFC 6749 section 6) and return what came of it. Raises nothing expected."""
        return await self._ask_with_each_secret(
            client, (refresh_request(client, refresh_token, secret) for secret in _secrets(client))
        )

    async def exchange_code(self, client: Client, code: Secret, code_verifier: Secret | None) -> TokenAnswer:
        """Exchange an authorization code (RFC 6749 section 4.1.3) and return what came of it."""
        return await self._ask_with_each_secret(
            client, (code_request(client, code, code_verifier, secret) for secret in _secrets(client))
        )

    async def _ask_with_each_secret(self, client: Client, requests: Iterator[TokenRequest]) -> TokenAnswer:
        answer = await self._ask(client, next(requests))
        for request in requests:
            # Only a plain `invalid_client` lets the next secret be tried: the token was not looked at. Anything
            # ambiguous must not present it twice.
            match answer.outcome:
                case Misconfigured(cause=Cause(code="invalid_client")):
                    answer = await self._ask(client, request)
                case _:
                    break
        return answer

    async def _ask(self, client: Client, request: TokenRequest) -> TokenAnswer:
        watched = Departure()
        token = departure.set(watched)
        sent_tick = self._tick()
        try:
            answer = await post(self._http, request, client.provider.request_timeout.total_seconds())
        except (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, OSError) as error:
            return TokenAnswer(outcome=_unanswered(error, watched), sent_tick=sent_tick, answered_tick=self._tick())
        finally:
            departure.reset(token)
        return TokenAnswer(
            outcome=classify(answer, facts=client.provider.facts, secrets=request.secrets),
            sent_tick=sent_tick,
            answered_tick=self._tick(),
            provider_date=read_date(answer.headers),
        )


def _secrets(client: Client) -> tuple[Secret | None, ...]:
    return client.client_secrets or (None,)


def _unanswered(error: Exception, watched: Departure) -> Outcome:
    if not watched.may_have_left:
        if _is_tls(error):
            return Misconfigured(cause=Cause(reason=Reason.TLS))
        return Unavailable(cause=Cause(reason=Reason.CONNECT))
    timed_out = isinstance(error, TimeoutError | httpx.ReadTimeout | httpx.WriteTimeout)
    return InDoubt(cause=Cause(reason=Reason.TIMEOUT if timed_out else Reason.NO_ANSWER))


def _is_tls(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLError | ssl.CertificateError):
            return True
        error = error.__cause__ or getattr(error, "os_error", None)
    return False
