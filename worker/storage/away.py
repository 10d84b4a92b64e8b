"""The database away: which errors mean it may take the same statement later, and trying again until it does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_delay, stop_never
from tenacity.stop import stop_base
from tenacity.wait import wait_random_exponential

#: Away, full, read-only, restarting or out of connections; not: a statement that is wrong.
AWAY: Final = (OperationalError, InterfaceError, InternalError, PoolTimeoutError, OSError, TimeoutError)
#: Longest pause between attempts, seconds: a restart takes about as long.
LONGEST_PAUSE: Final = 2.0

T = TypeVar("T")


def has_answered(error: BaseException) -> bool:
    """Tell whether a failure is the database's own answer: it was reached, and refused one statement or gave it up."""
    if isinstance(error, DBAPIError):
        # What fails on the way to the database has no SQLSTATE; what ends a session has one, and nobody to ask again.
        return getattr(error.orig, "sqlstate", None) is not None and not error.connection_invalidated
    return isinstance(error, SQLAlchemyError) and not isinstance(error, PoolTimeoutError)


async def until_taken(
    attempt: Callable[[], Awaitable[T]],
    *,
    seconds: float | None = None,
    on_retry: Callable[[BaseException], object] = lambda _error: None,
) -> T:
    """Repeat what the database did not take, until it does; `attempt` must be safe to repeat.

    Args:
        attempt: one try, a transaction of its own.
        seconds: when to stop trying; None: never.
        on_retry: told of each failure.

    """
    stop: stop_base = stop_never if seconds is None else stop_after_delay(seconds)

    def report(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        if error is not None:
            on_retry(error)

    async def once() -> T:  # tenacity awaits only what it can see to be a coroutine function
        return await attempt()

    retrying = AsyncRetrying(
        retry=retry_if_exception_type(AWAY),
        wait=wait_random_exponential(multiplier=0.05, max=LONGEST_PAUSE),
        stop=stop,
        before_sleep=report,
        reraise=True,
    )
    return await retrying(once)
