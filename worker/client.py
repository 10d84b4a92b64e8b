"""For the programs that use the access tokens: authentication for httpx that fetches them here.

    auth = EvergrantAuth(
        "https://tokens.example", os.environ["EVERGRANT_API_TOKEN"], client="askara-main", subject="customer-42"
    )
    with httpx.Client(base_url="https://api.askara.example", auth=auth) as askara:
        askara.get("/v1/organization").raise_for_status()

The same object serves `httpx.AsyncClient`. It needs nothing of this package but this file, and httpx.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode
from uuid import UUID

import httpx

#: How long before its end a token is not used any more, seconds: a request takes time, and clocks differ.
MARGIN: Final = 60.0
#: Of a token that lives for less than a few minutes, this share of its life is margin enough.
_SHARE: Final = 0.25
#: Seconds to wait for an access token: it may be refreshed first, at a provider that is slow.
_TIMEOUT: Final = httpx.Timeout(60.0, connect=5.0)


class NoAccessTokenError(Exception):
    """There is no access token.

    Attributes:
        status: what Evergrant answered.
        kind: the problem's kind, such as `grant-needs-owner`; empty where the answer is no problem document.
        problem: the whole problem document (RFC 9457), if it is one.
        retry_after: seconds after which it may be worth trying again, if that was said.

    """

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.problem = _object(response)
        self.kind = str(self.problem.get("type", "")).rpartition(":")[2]
        after = response.headers.get("retry-after", "")
        self.retry_after = int(after) if after.isdecimal() else None
        title, detail = self.problem.get("title", "it gave no reason"), self.problem.get("detail", "")
        super().__init__(f"Evergrant gave no access token ({self.status}): {title}. {detail}".rstrip())


@dataclass(frozen=True, slots=True, repr=False)
class _Kept:
    access_token: str
    until: float


class EvergrantAuth(httpx.Auth):
    """Sends each request with an access token of one grant.

    A token is kept until shortly before its end. A request that is answered with 401 is sent once more with the token
    that Evergrant has by then, for it may have been replaced meanwhile. Threads and tasks may share one object.

    Args:
        url: where Evergrant is, such as `https://tokens.example`.
        api_token: an API token with the role `token` or above.
        grant_id: the grant; or instead of it
        client: the client's name, and
        subject: your name for the owner.
        margin: how long before its end a token is not used any more, seconds.
        tick: the monotonic clock, in seconds.

    Its requests for tokens go through the httpx client that it is used with.

    """

    def __init__(
        self,
        url: str,
        api_token: str,
        *,
        grant_id: UUID | str | None = None,
        client: str | None = None,
        subject: str | None = None,
        margin: float = MARGIN,
        tick: Callable[[], float] = time.monotonic,
    ) -> None:
        base = f"{url.rstrip('/')}/v1"
        query: dict[str, str] = {"min_ttl": str(int(margin))}
        if grant_id is not None and client is None and subject is None:
            path = f"{base}/grants/{quote(str(grant_id), safe='')}/access-token"
        elif grant_id is None and client is not None and subject is not None:
            path = f"{base}/access-token"
            query |= {"client": client, "subject": subject}
        else:
            message = "give either grant_id, or both client and subject"
            raise TypeError(message)
        self._url = f"{path}?{urlencode(query)}"
        self._api_token = api_token
        self._margin = margin
        self._tick = tick
        self._kept: _Kept | None = None

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Authenticate a request of `httpx.Client`."""
        token = self._usable()
        if token is None:
            asked = self._tick()
            answer = yield self._question()
            answer.read()
            token = self._keep(answer, asked)
        response = yield _with(request, token)
        if response.status_code == httpx.codes.UNAUTHORIZED and _is_repeatable(request):
            asked = self._tick()
            answer = yield self._question()
            answer.read()
            # Sent again even with the same token: httpx returns the last answer, and that must not be Evergrant's.
            yield _with(request, self._keep(answer, asked))

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Authenticate a request of `httpx.AsyncClient`."""
        token = self._usable()
        if token is None:
            asked = self._tick()
            answer = yield self._question()
            await answer.aread()
            token = self._keep(answer, asked)
        response = yield _with(request, token)
        if response.status_code == httpx.codes.UNAUTHORIZED and _is_repeatable(request):
            asked = self._tick()
            answer = yield self._question()
            await answer.aread()
            # Sent again even with the same token: httpx returns the last answer, and that must not be Evergrant's.
            yield _with(request, self._keep(answer, asked))

    def _usable(self) -> str | None:
        kept = self._kept
        return kept.access_token if kept is not None and self._tick() < kept.until else None

    def _question(self) -> httpx.Request:
        headers = {"Authorization": f"Bearer {self._api_token}", "Accept": "application/json"}
        return httpx.Request("GET", self._url, headers=headers, extensions={"timeout": _TIMEOUT.as_dict()})

    def _keep(self, answer: httpx.Response, asked: float) -> str:
        found = _object(answer)
        token, lifetime = found.get("access_token"), found.get("expires_in")
        if answer.status_code != httpx.codes.OK or not isinstance(token, str):
            self._kept = None
            raise NoAccessTokenError(answer)
        # Counted from when it was asked for, on a clock that nobody sets. Without a lifetime it is used this once.
        left = float(lifetime) if isinstance(lifetime, int) else 0.0
        self._kept = _Kept(token, asked + left - min(self._margin, left * _SHARE))
        return token


def _with(request: httpx.Request, access_token: str) -> httpx.Request:
    request.headers["Authorization"] = f"Bearer {access_token}"
    return request


def _is_repeatable(request: httpx.Request) -> bool:
    try:
        _ = request.content
    except httpx.RequestNotRead:
        return False  # its body is a stream, and has been read
    return True


def _object(response: httpx.Response) -> dict[str, Any]:
    try:
        found = response.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
