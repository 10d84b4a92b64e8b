"""For the programs that use the access tokens: authentication for httpx that fetches them here.

    auth = EvergrantAuth(
        "https://tokens.example", os.environ["EVERGRANT_API_TOKEN"], client="askara-main", subject="customer-42"
    )
    with httpx.Client(base_url="https://api.askara.example", auth=auth) as askara:
        askara.get("/v1/organization").raise_for_status()

The same object serves `httpx.AsyncClient`. It needs nothing of this package but this file, and httpx.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode
from uuid import UUID
from weakref import WeakKeyDictionary

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

    def __init__(self, status: int, problem: dict[str, Any], retry_after: int | None) -> None:
        super().__init__(status, problem, retry_after)
        self.status = status
        self.problem = problem
        self.kind = str(problem.get("type", "")).rpartition(":")[2]
        self.retry_after = retry_after

    def __str__(self) -> str:
        title, detail = self.problem.get("title", "it gave no reason"), self.problem.get("detail", "")
        return f"Evergrant gave no access token ({self.status}): {title}. {detail}".rstrip()


@dataclass(frozen=True, slots=True, repr=False)
class _Kept:
    access_token: str
    until: float
    since: float  #: when its answer came


class EvergrantAuth(httpx.Auth):
    """Sends each request with an access token of one grant.

    A token is kept until shortly before its end. A request that is answered with 401 is sent once more with the token
    that Evergrant has by then, for it may have been replaced meanwhile; a streamed body cannot be sent twice, and its
    401 is the answer. Threads and tasks may share one object: of those that need a token at once one asks, and the
    others take what it was given.

    Args:
        url: where Evergrant is, such as `https://tokens.example`.
        api_token: an API token with the role `token` or above.
        grant_id: the grant; or instead of it
        client: the client's name, and
        subject: your name for the owner.
        margin: how long before its end a token is not used any more, seconds.
        tick: the monotonic clock, in seconds.

    Its requests for tokens go through the httpx client that it is used with. Where Evergrant has no token to give, they
    raise `NoAccessTokenError`; where it cannot be reached, what httpx raises.

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
        if grant_id is not None and client is None and subject is None:
            self._path, self._which = f"{base}/grants/{quote(str(grant_id), safe='')}/access-token", {}
        elif grant_id is None and client is not None and subject is not None:
            self._path, self._which = f"{base}/access-token", {"client": client, "subject": subject}
        else:
            message = "give either grant_id, or both client and subject"
            raise TypeError(message)
        self._api_token = api_token.strip()  # a file's last line has an end
        if not self._api_token or not (self._api_token.isascii() and self._api_token.isprintable()):
            message = "api_token is empty, or holds what no API token does"
            raise ValueError(message)
        if margin < 0:
            message = "margin must not be negative"
            raise ValueError(message)
        self._margin = margin
        self._min_ttl = int(margin)
        self._tick = tick
        self._kept: _Kept | None = None
        self._asking = threading.RLock()
        self._asking_on_lock = threading.Lock()
        self._asking_on: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"EvergrantAuth({self._question_url()!r})"

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Authenticate a request of `httpx.Client`."""
        token = self._usable()
        if token is None:
            with self._turn() as given:
                token = given
                if token is None:
                    asked = self._tick()
                    answer = yield self._question()
                    answer.read()
                    token = self._keep(answer, asked)
        sent = self._tick()
        response = yield _with(request, token)
        if response.status_code == httpx.codes.UNAUTHORIZED and _is_repeatable(request):
            response.read()  # its connection is free before anybody waits
            with self._turn(token, sent) as given:
                newer = given
                if newer is None:
                    asked = self._tick()
                    answer = yield self._question()
                    answer.read()
                    newer = self._keep(answer, asked)
            # Sent again even with the same token: httpx returns the last answer, and that must not be Evergrant's.
            yield _with(request, newer)

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Authenticate a request of `httpx.AsyncClient`."""
        token = self._usable()
        if token is None:
            async with self._turn_of_task() as given:
                token = given
                if token is None:
                    asked = self._tick()
                    answer = yield self._question()
                    await answer.aread()
                    token = self._keep(answer, asked)
        sent = self._tick()
        response = yield _with(request, token)
        if response.status_code == httpx.codes.UNAUTHORIZED and _is_repeatable(request):
            await response.aread()  # its connection is free before anybody waits
            async with self._turn_of_task(token, sent) as given:
                newer = given
                if newer is None:
                    asked = self._tick()
                    answer = yield self._question()
                    await answer.aread()
                    newer = self._keep(answer, asked)
            # Sent again even with the same token: httpx returns the last answer, and that must not be Evergrant's.
            yield _with(request, newer)

    @contextmanager
    def _turn(self, refused: str | None = None, sent: float = 0.0) -> Iterator[str | None]:
        """Be the thread that asks, or wait for it; gives what was asked for meanwhile, None: nothing, ask.

        Args:
            refused: the token that was answered with 401.
            sent: when.

        """
        if self._asking.acquire(blocking=False):
            try:
                yield self._given(refused, sent)
            finally:
                self._asking.release()
        else:
            with self._asking:
                pass
            yield self._given(refused, sent)

    @asynccontextmanager
    async def _turn_of_task(self, refused: str | None = None, sent: float = 0.0) -> AsyncIterator[str | None]:
        """Do the same among the tasks of one event loop."""
        asking = self._asking_here()
        if asking is None or not asking.locked():
            async with asking or nullcontext():
                yield self._given(refused, sent)
        else:
            async with asking:
                pass
            yield self._given(refused, sent)

    def _asking_here(self) -> asyncio.Lock | None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return None  # of another library's loop each task asks for itself
        with self._asking_on_lock:
            return self._asking_on.setdefault(loop, asyncio.Lock())

    def _given(self, refused: str | None, sent: float) -> str | None:
        """Return the token at hand, unless it is the refused one and Evergrant has not been asked since."""
        kept = self._kept
        is_news = kept is not None and (kept.access_token != refused or kept.since > sent)
        return self._usable() if is_news else None

    def _usable(self) -> str | None:
        kept = self._kept
        return kept.access_token if kept is not None and self._tick() < kept.until else None

    def _question_url(self) -> str:
        return f"{self._path}?{urlencode({'min_ttl': self._min_ttl, **self._which})}"

    def _question(self) -> httpx.Request:
        headers = {"Authorization": f"Bearer {self._api_token}", "Accept": "application/json"}
        return httpx.Request("GET", self._question_url(), headers=headers, extensions={"timeout": _TIMEOUT.as_dict()})

    def _keep(self, answer: httpx.Response, asked: float) -> str:
        found = _object(answer)
        token, lifetime = found.get("access_token"), found.get("expires_in")
        if answer.status_code != httpx.codes.OK or not isinstance(token, str):
            self._kept = None
            after = answer.headers.get("retry-after", "")
            raise NoAccessTokenError(answer.status_code, found, int(after) if after.isdecimal() else None)
        # Counted from when it was asked for, on a clock that nobody sets. Without a lifetime it is used this once.
        left = float(lifetime) if isinstance(lifetime, int) else 0.0
        margin = min(self._margin, left * _SHARE)
        self._kept = _Kept(token, asked + left - margin, self._tick())
        # Where no token lives as long as is asked for, each question would cost a refresh.
        self._min_ttl = int(margin)
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
