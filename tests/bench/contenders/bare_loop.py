"""The bare loop: what is left of a refresh when all safety is taken away.

It reads its grants once, keeps a fixed number of requests in flight, reads the answer's JSON, and writes what came with
a plain UPDATE by id, in small batches. There is no claim, no spend record, no lease, no fence and no Celery. A crash
loses what is in flight, and a second loop beside it spends twice.

Dressed (`--dressed`), it does beside that what any careful program would: tokens are sealed with AES-GCM, requests are
counted and timed with prometheus_client, and tenacity stands around each of them. Without, it is the least that a
program in Python can do. Requests go through aiohttp, or through httpx's API
over Evergrant's connections.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp
import psycopg

from tests.bench.contenders.bare_steps import Answer, Dressed, Post, Row, Steps, Undressed
from tests.bench.contenders.baseline_table import BaselineTable
from tests.bench.contenders.program import Task, parser, task, tell_done, wait_for_go
from worker.domain.secret import Secret
from worker.oauth.http_client import ROUTE, create_http_client
from worker.oauth.route import Addresses, Route
from worker.storage.sealing import KeyRing, parse_keys

#: Answers that come this soon after each other share a commit, seconds: as Evergrant's do.
_LINGER: Final = 0.003
#: Refreshed before the start, as the other contenders do, so that no first time is measured.
_WARM_UP: Final = 150

_STORE: Final = """
    UPDATE {table} AS g
       SET refresh_token = s.refresh_token, access_token = s.access_token,
           expires_at = now() + s.seconds * interval '1 second', rotated_at = now()
      FROM unnest(%s::bigint[], %s::{kind}[], %s::{kind}[], %s::int[]) AS s (id, refresh_token, access_token, seconds)
     WHERE g.id = s.id
"""
_SECRET: Final = "the bench's client secret"


class _Stores:
    """Writes answers in small batches."""

    def __init__(self, connection: psycopg.AsyncConnection, table: BaselineTable) -> None:
        self._connection = connection
        kind = "bytea" if table is BaselineTable.SEALED else "text"
        self._statement = _STORE.format(table=table, kind=kind).encode()
        self._waiting: list[Answer] = []
        self._flushing: asyncio.Task[None] | None = None

    def put(self, answer: Answer) -> None:
        self._waiting.append(answer)
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())

    async def finish(self) -> None:
        if self._flushing is not None:
            await self._flushing

    async def _flush(self) -> None:
        await asyncio.sleep(_LINGER)
        while self._waiting:
            batch, self._waiting = self._waiting, []
            await self._connection.execute(self._statement, [list(column) for column in zip(*batch, strict=True)])


@asynccontextmanager
async def _aiohttp(its: Task) -> AsyncIterator[Post]:
    url, auth = f"{its.endpoint}/token", aiohttp.encode_basic_auth("bench", _SECRET)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers={"Authorization": auth}) as session:

        async def post(token: str) -> bytes:
            form = {"grant_type": "refresh_token", "refresh_token": token}
            async with session.post(url, data=form) as response:
                response.raise_for_status()
                return await response.read()

        yield post


@asynccontextmanager
async def _httpx(its: Task) -> AsyncIterator[Post]:
    url, route = f"{its.endpoint}/token", {ROUTE: Route(addresses=Addresses.LOOPBACK_TOO)}
    async with create_http_client(user_agent="bare loop") as http:

        async def post(token: str) -> bytes:
            form = {"grant_type": "refresh_token", "refresh_token": token}
            response = await http.post(url, data=form, auth=("bench", _SECRET), extensions=route)
            return response.raise_for_status().content

        yield post


_APIS: Final[dict[str, Callable[[Task], AbstractAsyncContextManager[Post]]]] = {"aiohttp": _aiohttp, "httpx": _httpx}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loop:
    """A fixed number of requests in flight, until there is nothing left or the time is up."""

    steps: Steps
    stores: _Stores
    in_flight: int
    seconds: float

    async def refresh(self, rows: Iterable[Row]) -> None:
        left, deadline = iter(rows), time.monotonic() + self.seconds
        await asyncio.gather(*(self._lane(left, deadline) for _ in range(self.in_flight)))
        await self.stores.finish()

    async def _lane(self, left: Iterator[Row], deadline: float) -> None:
        for row in left:
            self.stores.put(await self.steps.refresh(row))
            if time.monotonic() > deadline:
                return


async def _run(its: Task, api: str, in_flight: int, *, dressed: bool) -> None:
    table = BaselineTable.SEALED if dressed else BaselineTable.CLEAR
    connection = await psycopg.AsyncConnection.connect(its.database, autocommit=True)
    async with connection, _APIS[api](its) as post:
        query = f"SELECT id, refresh_token FROM {table} WHERE id %% %s = %s ORDER BY id".encode()
        found: list[Row] = await (await connection.execute(query, [its.parts, its.part])).fetchall()
        keys = KeyRing(parse_keys(Secret(os.environ["BENCH_KEYS"])), os.urandom)
        steps = Dressed(post, keys) if dressed else Undressed(post)
        loop = _Loop(steps=steps, stores=_Stores(connection, table), in_flight=in_flight, seconds=its.seconds)
        await loop.refresh(found[:_WARM_UP])
        wait_for_go()
        await loop.refresh(found[_WARM_UP:])


def main() -> int:
    """Refresh this share of the grants."""
    made = parser(__doc__)
    made.add_argument("--api", choices=_APIS, required=True)
    made.add_argument("--dressed", action="store_true")
    made.add_argument("--in-flight", type=int, required=True)
    given = made.parse_args()
    asyncio.run(_run(task(given), given.api, given.in_flight, dressed=given.dressed))
    tell_done()
    return 0


if __name__ == "__main__":
    sys.exit(main())
