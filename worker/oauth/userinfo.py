"""Asking whose account a new access token is for: OpenID Connect's UserInfo, or what stands in its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import httpx
from tenacity import AsyncRetrying, retry_if_result, stop_after_attempt, stop_after_delay, wait_random_exponential

from worker.domain.secret import Secret
from worker.oauth.captured import account_at
from worker.oauth.client import Client
from worker.oauth.exchange import UnansweredError, exchange
from worker.oauth.provider_steps import ClientAuth, RequestEncoding
from worker.oauth.request_encoding import encode
from worker.oauth.request_values import UnfilledError, filled_headers, filled_parameters, filled_url, request_values
from worker.oauth.route import route
from worker.oauth.token_answer import HttpAnswer, read_object
from worker.oauth.token_request import TokenRequest

#: The request changes nothing, so it may be sent again.
TRIES: Final = 3
#: Longest try, and longest pause before the next one, seconds: an owner waits before a browser.
_LONGEST_TRY: Final = 5.0
_LONGEST_PAUSE: Final = 1.0
#: No further try begins after this, seconds.
_LONGEST: Final = 8.0
_SUCCESS: Final = 200  # OpenID Connect Core 1.0 section 5.3.2
_TRY_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


def userinfo_request(client: Client, url: str, access_token: Secret, captured: Mapping[str, str]) -> TokenRequest:
    """Build the request for the owner's id, with the access token in its `Authorization` header (RFC 6750 section 2.1).

    Raises:
        UnfilledError: when the provider's facts ask for a value that there is none of.

    """
    provider, step = client.provider, client.provider.userinfo
    values = request_values(client, captured, access_token=access_token)
    parameters = filled_parameters(step.params, values, "userinfo.params")
    encoded = encode(RequestEncoding.FORM if step.method == "POST" else RequestEncoding.QUERY, parameters)
    headers = {**provider.headers, **step.headers}
    if not any(name.lower() == "authorization" for name in headers):
        headers["Authorization"] = "Bearer {access_token}"
    filled = filled_url(url, values, "userinfo_endpoint")
    return TokenRequest(
        url=f"{filled}{'&' if '?' in filled else '?'}{encoded.query}" if encoded.query else filled,
        headers=filled_headers(headers, values, "userinfo.headers")
        | ({"Content-Type": encoded.content_type} if encoded.content_type else {}),
        content=encoded.content,
        secrets=(access_token,),
        endpoint=url,
        method=step.method,
        route=route(client, url, ClientAuth.NONE),
    )


class Userinfo:
    """Asks for owners' ids, through the process's HTTP client."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def account(self, client: Client, access_token: Secret, captured: Mapping[str, str]) -> str | None:
        """Return the id of the account that an access token is for, or None where nobody says. Raises nothing expected.

        Args:
            client: that the token was issued to; its provider has a `userinfo_endpoint`.
            access_token: what was just granted.
            captured: what was kept of this grant's redirect and answers.

        """
        url = client.provider.userinfo_endpoint
        if url is None:
            return None
        try:
            request = userinfo_request(client, url, access_token, captured)
        except UnfilledError:
            return None
        retrying = AsyncRetrying(
            retry=retry_if_result(_is_worth_another_try),
            stop=stop_after_attempt(TRIES) | stop_after_delay(_LONGEST),
            wait=wait_random_exponential(multiplier=0.1, max=_LONGEST_PAUSE),
            retry_error_callback=lambda state: state.outcome.result() if state.outcome is not None else None,
        )
        answer: HttpAnswer | None = await retrying(self._ask, client, request)
        fields = read_object(answer) if answer is not None and answer.status == _SUCCESS else None
        if fields is None:
            return None
        return account_at(fields, client.provider.userinfo.account, [access_token.reveal()])

    async def _ask(self, client: Client, request: TokenRequest) -> HttpAnswer | None:
        limit = min(client.provider.request_timeout.total_seconds(), _LONGEST_TRY)
        try:
            return await exchange(self._http, request, limit)
        except UnansweredError:
            return None


def _is_worth_another_try(answer: HttpAnswer | None) -> bool:
    return answer is None or answer.status in _TRY_AGAIN
