"""The bare loop: what is left of a refresh when all safety is taken away.

It reads its grants once, keeps a fixed number of requests in flight through Evergrant's own HTTP client, reads the
answer's JSON, and writes what came with a plain UPDATE by id, in small batches. There is no claim, no spend record, no
lease, no fence, no sealing, no Celery, no metric and no log. A crash loses what is in flight, and a second loop beside
it spends twice.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import httpx
import psycopg

from tests.bench.contenders.program import Task, parser, task, tell_done, wait_for_go
from worker.oauth.http_client import ROUTE, create_http_client
from worker.oauth.route import Addresses, Route

#: Answers that come this soon after each other share a commit, seconds: as Evergrant's do.
_LINGER: Final = 0.003
#: Refreshed before the start, as the other contenders do, so that no first time is measured.
_WARM_UP: Final = 150

_STORE: Final = """
    UPDATE baseline_grants AS g
       SET refresh_token = s.refresh_token, access_token = s.access_token,
           expires_at = now() + s.seconds * interval '1 second', rotated_at = now()
      FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::int[]) AS s (id, refresh_token, access_token, seconds)
     WHERE g.id = s.id
"""

Row = tuple[int, str]
Answer = tuple[int, str, str, int]


class _Stores:
    """Writes answers in small batches."""

    def __init__(self, connection: psycopg.AsyncConnection) -> None:
        self._connection = connection
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
            await self._connection.execute(_STORE, [list(column) for column in zip(*batch, strict=True)])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loop:
    """A fixed number of requests in flight, until there is nothing left or the time is up."""

    its: Task
    http: httpx.AsyncClient
    stores: _Stores
    in_flight: int

    async def refresh(self, rows: Iterable[Row]) -> None:
        left, deadline = iter(rows), time.monotonic() + self.its.seconds
        await asyncio.gather(*(self._lane(left, deadline) for _ in range(self.in_flight)))
        await self.stores.finish()

    async def _lane(self, left: Iterator[Row], deadline: float) -> None:
        for number, token in left:
            response = await self.http.post(
                f"{self.its.endpoint}/token",
                data={"grant_type": "refresh_token", "refresh_token": token},
                auth=("bench", "the bench's client secret"),
                extensions={ROUTE: Route(addresses=Addresses.LOOPBACK_TOO)},
            )
            answer: dict[str, Any] = response.raise_for_status().json()
            self.stores.put((number, answer["refresh_token"], answer["access_token"], answer["expires_in"]))
            if time.monotonic() > deadline:
                return


async def _run(its: Task, in_flight: int) -> None:
    connection = await psycopg.AsyncConnection.connect(its.database, autocommit=True)
    async with connection, create_http_client(user_agent="bare loop") as http:
        query = "SELECT id, refresh_token FROM baseline_grants WHERE id %% %s = %s ORDER BY id"
        found: list[Row] = await (await connection.execute(query, [its.parts, its.part])).fetchall()
        loop = _Loop(its=its, http=http, stores=_Stores(connection), in_flight=in_flight)
        await loop.refresh(found[:_WARM_UP])
        wait_for_go()
        await loop.refresh(found[_WARM_UP:])


def main() -> int:
    """Refresh this share of the grants."""
    made = parser(__doc__)
    made.add_argument("--in-flight", type=int, required=True)
    given = made.parse_args()
    asyncio.run(_run(task(given), given.in_flight))
    tell_done()
    return 0


if __name__ == "__main__":
    sys.exit(main())
