"""Waiting for a real condition, with a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

_EVERY = 0.02  # seconds between looks


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Look at a condition until it holds; fail with `what` when the time is up."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(_EVERY)


async def until(condition: Callable[[], Awaitable[object] | object], seconds: float, what: str) -> None:
    """Look at a condition, which may be asynchronous, until it holds; fail with `what` when the time is up."""
    deadline = time.monotonic() + seconds
    while not await _looked_at(condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        await asyncio.sleep(_EVERY)


async def _looked_at(found: Awaitable[object] | object) -> object:
    return await found if isinstance(found, Awaitable) else found
