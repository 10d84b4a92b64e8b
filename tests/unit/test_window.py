"""The places for requests in flight that all drains of a process share."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from worker.usecases.drain import Window

pytestmark = pytest.mark.anyio


async def turns(count: int = 5) -> None:
    """Let every task that can go on do so."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_places_are_counted() -> None:
    """What is taken is not free, and what is given back is."""
    window = Window(limit=3)

    window.take(2)
    assert window.free == 1
    window.give_back()
    assert window.free == 2
    window.take(2)
    assert window.free == 0
    window.give_back(2)
    window.give_back(0)
    assert window.free == 2


async def test_a_free_place_is_not_waited_for() -> None:
    """While a place is free, waiting ends at once, also after places were given back earlier."""
    window = Window(limit=1)

    async with asyncio.timeout(5):
        await window.wait_for_place()
        window.take(1)
        window.give_back()
        await window.wait_for_place()


async def test_who_waits_is_woken_by_a_place() -> None:
    """A full window makes everybody wait until a place is given back."""
    window = Window(limit=2)
    window.take(2)
    waiting = asyncio.create_task(window.wait_for_place())
    await turns()
    assert not waiting.done()

    window.give_back()

    async with asyncio.timeout(5):
        await waiting


async def test_a_place_given_back_and_taken_again_wakes_nobody_for_nothing() -> None:
    """Who is woken looks again: a place that was taken meanwhile is waited for once more."""
    window = Window(limit=1)
    window.take(1)
    waiting = asyncio.create_task(window.wait_for_place())
    await turns()

    window.give_back()
    window.take(1)
    await turns()
    assert not waiting.done()

    window.give_back()
    async with asyncio.timeout(5):
        await waiting


async def test_no_more_places_are_taken_than_there_are() -> None:
    """Many drains that wait and take share the window without ever overfilling it, and all come to an end."""
    window = Window(limit=3)
    in_flight, most, done = 0, 0, 0

    async def drain(places: int) -> None:
        nonlocal in_flight, most, done
        for _ in range(20):
            await window.wait_for_place()
            taken = min(places, window.free)
            window.take(taken)
            in_flight += taken
            most = max(most, in_flight)
            assert window.free >= 0
            await turns(places)
            in_flight -= taken
            window.give_back(taken)
        done += 1

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for number in range(12):
            group.create_task(drain(1 + number % 3))

    assert (done, in_flight, window.free, most) == (12, 0, 3, 3)


async def test_a_waiter_that_is_cancelled_takes_nothing() -> None:
    """A cancelled wait leaves the window as it was, and the next waiter is still woken."""
    window = Window(limit=1)
    window.take(1)
    cancelled, waiting = (asyncio.create_task(window.wait_for_place()) for _ in range(2))
    await turns()

    cancelled.cancel()
    with suppress(asyncio.CancelledError):
        await cancelled
    window.give_back()

    async with asyncio.timeout(5):
        await waiting
    assert window.free == 1
