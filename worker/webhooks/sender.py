"""Sending one message to one endpoint, and saying what came of it in words that hold nothing secret."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import httpx

from worker.domain.webhook import Attempt, Failed, judge
from worker.oauth.exchange import UnansweredError, exchange
from worker.oauth.http_pool import PrivateAddressError
from worker.oauth.route import Route, allowed
from worker.oauth.token_answer import read_retry_after
from worker.oauth.token_request import TokenRequest
from worker.webhooks.endpoint import Endpoint
from worker.webhooks.message import Message, signed_headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What came of one attempt."""

    attempt: Attempt
    seconds: float  #: how long it took
    status: int | None = None  #: of the answer, where one was read


class Sender:
    """Sends messages.

    Args:
        http: made by `create_http_client`: it follows no redirect, and looks at the address that it connects to.
        tick: the monotonic clock, in seconds.

    """

    def __init__(self, http: httpx.AsyncClient, tick: Callable[[], float]) -> None:
        self._http = http
        self._tick = tick

    async def send(self, endpoint: Endpoint, message: Message, sent_at: datetime) -> Sent:
        """Send a message and read the answer, in the endpoint's time limit. Raises nothing expected.

        Args:
            endpoint: where to.
            message: what.
            sent_at: when this attempt is made; receivers compare it with their clock.

        """
        url = endpoint.url.reveal()
        request = TokenRequest(
            url=url,
            headers=signed_headers(message, endpoint.secrets, sent_at),
            content=message.payload.encode(),
            secrets=endpoint.secrets,
            endpoint=endpoint.name,  # what is printed of a request
            route=Route(addresses=allowed(url, private=endpoint.allow_private_addresses)),
        )
        began = self._tick()
        try:
            answer = await exchange(self._http, request, endpoint.timeout.total_seconds())
        except UnansweredError as error:
            if error.read is None:
                failed = Failed(error=_words(error, endpoint), not_now=True)
                return Sent(attempt=failed, seconds=self._tick() - began)
            answer = error.read  # its status says all there is to know
        attempt = judge(answer.status, read_retry_after(answer.headers))
        return Sent(attempt=attempt, seconds=self._tick() - began, status=answer.status)


def _words(error: BaseException, endpoint: Endpoint) -> str:
    """Return why there is no answer. What the libraries say is not repeated: it holds the address."""
    causes = list(_causes(error))
    if any(isinstance(cause, PrivateAddressError) for cause in causes):
        return "its address is a private one; where it is meant, set allow_private_addresses = true"
    if any(isinstance(cause, ssl.SSLError | ssl.CertificateError) for cause in causes):
        return "no TLS connection: its certificate is not trusted, or it speaks no TLS"
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return "its name is not known to DNS"
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return "connection refused: nothing listens there"
    if any(isinstance(cause, TimeoutError | httpx.TimeoutException) for cause in causes):
        return f"no answer within {endpoint.timeout.total_seconds():g} s"
    return "the connection broke before an answer came"


def _causes(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__ or getattr(error, "os_error", None)
    return found
