"""Health: `/healthz` says that this process lives, `/readyz` whether it can work, and why not."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from fastapi import Request
from fastapi.responses import JSONResponse
from redis.asyncio import Redis
from sqlalchemy import text

from worker.bootstrap import Container
from worker.web.dependencies import TheContainer
from worker.web.page_route import public_router

router = public_router()

#: A dependency that takes longer than this is not ready, seconds.
_LIMIT: Final = 2.0
#: Checks that took too long and are being ended.
_ending: Final[set[asyncio.Task[str]]] = set()


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Say that the event loop turns; nothing else is looked at."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(_request: Request, container: TheContainer) -> JSONResponse:
    """Say whether the database and the broker answer."""
    database, broker = await asyncio.gather(_in_time(_database(container)), _in_time(_broker(container)))
    checks = {"database": database, "broker": broker}
    ready = all(found == "ok" for found in checks.values())
    return JSONResponse({"status": "ok" if ready else "unavailable", "checks": checks}, 200 if ready else 503)


async def _in_time(check: Coroutine[Any, Any, str]) -> str:
    task = asyncio.create_task(check)
    done, late = await asyncio.wait({task}, timeout=_LIMIT)
    if done:
        return task.result()
    # Not waited for: psycopg asks the server to end a statement that is cancelled, which takes long where none answers.
    _ending.update(late)
    task.add_done_callback(_ending.discard)
    task.cancel()
    return TimeoutError.__name__


async def _database(container: Container) -> str:
    try:
        async with container.engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
    except Exception as error:  # noqa: BLE001 -- whatever is wrong, the answer is "not ready" and what it is
        return type(error).__name__
    return "ok"


async def _broker(container: Container) -> str:
    url = container.settings.broker_url
    if url is None or not url.reveal().startswith(("redis://", "rediss://", "unix://")):
        return "ok"  # other transports are Celery's matter, and a broker that is away loses nothing
    try:
        async with Redis.from_url(url.reveal()) as broker:
            await broker.ping()
    except Exception as error:  # noqa: BLE001 -- as above
        return type(error).__name__
    return "ok"
