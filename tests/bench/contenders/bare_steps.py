"""One refresh of the bare loop: from the row that was read to what is to be written."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import aiohttp
from prometheus_client import CollectorRegistry, Counter, Histogram
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from tests.bench.contenders.baseline_table import ACCESS_TOKEN, REFRESH_TOKEN
from worker.domain.secret import Secret
from worker.storage.sealing import KeyRing

#: Asks the token endpoint; returns the answer's body.
Post = Callable[[str], Awaitable[bytes]]
#: A grant's number, and its refresh token as it is stored.
Row = tuple[int, Any]
#: Number, refresh token and access token as they are to be stored, and the latter's life in seconds.
Answer = tuple[int, Any, Any, int]

_TRIES: Final = 3


class Steps(Protocol):
    """What is done for one grant."""

    async def refresh(self, row: Row) -> Answer:
        """Ask for new tokens and return what is to be stored."""


class Undressed:
    """Nothing but the request and its JSON."""

    def __init__(self, post: Post) -> None:
        self._post = post

    async def refresh(self, row: Row) -> Answer:
        """Ask for new tokens and return what is to be stored."""
        number, token = row
        answer = json.loads(await self._post(token))
        return number, answer["refresh_token"], answer["access_token"], answer["expires_in"]


class Dressed:
    """Tokens sealed, requests counted and timed, and tried again where no connection could be made."""

    def __init__(self, post: Post, keys: KeyRing) -> None:
        self._post = post
        self._keys = keys
        registry = CollectorRegistry()
        self._count = Counter("refresh", "Refreshes.", ["client", "outcome"], registry=registry)
        self._time = Histogram("refresh_seconds", "How long they took.", ["client"], registry=registry)

    async def refresh(self, row: Row) -> Answer:
        """Ask for new tokens and return what is to be stored."""
        number, sealed = row
        keys, name = self._keys, str(number)
        token = keys.open(sealed, REFRESH_TOKEN, name).reveal()
        began = time.monotonic()
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(aiohttp.ClientConnectorError),
            stop=stop_after_attempt(_TRIES),
            wait=wait_random_exponential(multiplier=0.1, max=1.0),
            reraise=True,
        )
        answer = json.loads(await retrying(self._post, token))
        self._time.labels("bench").observe(time.monotonic() - began)
        self._count.labels("bench", "rotated").inc()
        return (
            number,
            keys.seal(Secret(answer["refresh_token"]), REFRESH_TOKEN, name),
            keys.seal(Secret(answer["access_token"]), ACCESS_TOKEN, name),
            answer["expires_in"],
        )
