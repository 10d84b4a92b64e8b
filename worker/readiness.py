"""What a process depends on, looked at now: whether it can work, and why not."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.domain.secret import Secret

#: A dependency that takes longer than this is not ready, seconds.
_LIMIT: Final = 2.0
_OK: Final = "ok"
#: What took too long and is being ended.
_ending: Final[set[asyncio.Task[Any]]] = set()

T = TypeVar("T")


async def in_time(work: Coroutine[Any, Any, T], seconds: float = _LIMIT) -> T:
    """Return what work brings, if it does so in some seconds.

    Raises:
        TimeoutError: it took longer, and is being ended.

    """
    task = asyncio.create_task(work)
    done, late = await asyncio.wait({task}, timeout=seconds)
    if done:
        return task.result()
    # Not waited for: psycopg asks the server to end a statement that is cancelled, which takes long where none answers.
    _ending.update(late)
    task.add_done_callback(_forget)
    task.cancel()
    raise TimeoutError


def _forget(task: asyncio.Task[Any]) -> None:
    _ending.discard(task)
    if not task.cancelled():
        task.exception()  # seen, and too late to matter


async def readiness(engine: AsyncEngine, broker_url: Secret | None) -> dict[str, str]:
    """Ask the database and the broker; returns for each `ok`, or the kind of error.

    Args:
        engine: the process's connections.
        broker_url: EVERGRANT_BROKER_URL.

    """
    database, broker = await asyncio.gather(_told(_ask_database(engine)), _told(_ask_broker(broker_url)))
    return {"database": database, "broker": broker}


def is_ready(checks: dict[str, str]) -> bool:
    """Tell whether everything answered."""
    return all(found == _OK for found in checks.values())


async def _told(check: Coroutine[Any, Any, None]) -> str:
    try:
        await in_time(check)
    except Exception as error:  # noqa: BLE001 -- whatever is wrong, the answer is "not ready" and what it is
        return type(error).__name__
    return _OK


async def _ask_database(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))


async def _ask_broker(url: Secret | None) -> None:
    if url is None or not url.reveal().startswith(("redis://", "rediss://", "unix://")):
        return  # other transports are Celery's matter, and a broker that is away loses nothing
    async with Redis.from_url(url.reveal()) as broker:
        await broker.ping()
