"""The places for requests in flight that all drains of a process share."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.usecases.window import Window, room

pytestmark = pytest.mark.anyio


async def turns(count: int = 5) -> None:
    """Let every task that can go on do so."""
    for _ in range(count):
        await asyncio.sleep(0)


def fill(window: Window, client: str) -> int:
    """Take all that a client may have, and return how many those are."""
    taken = 0
    while places := window.room(client):
        window.take(client, places)
        taken += places
    return taken


async def test_places_are_counted() -> None:
    """What is taken is not there for others, and what is given back is."""
    window = Window(limit=1)

    window.take("a", 1)
    assert window.room("a") == window.room("b") == 0
    window.give_back("a")
    assert window.room("a") == window.room("b") == 1
    window.give_back("b", 0)
    assert window.room("b") == 1


async def test_a_client_alone_leaves_a_fifth() -> None:
    """Four fifths of the places go to one client, and not one more."""
    assert fill(Window(limit=200), "slow") == 160


@pytest.mark.parametrize(("limit", "clients"), [(200, 8), (20, 2), (10, 2)])
async def test_slow_clients_leave_room_for_another(limit: int, clients: int) -> None:
    """While several clients hold all that they may, the next one finds a place."""
    window = Window(limit=limit)
    shares = [fill(window, f"slow-{number}") for number in range(clients)]

    assert all(shares)
    assert window.room("quick") > 0


@given(free=st.integers(0, 1000), others=st.integers(0, 1000), held=st.integers(0, 1000))
def test_nobody_takes_more_than_there_is(free: int, others: int, held: int) -> None:
    """The room is between nothing and what is free, and who holds nothing is let in while anything is."""
    limit = free + others + held
    assert 0 <= room(limit=limit, free=free, held=held) <= free
    assert (room(limit=limit, free=free, held=0) > 0) is (free > 0)


async def test_a_free_place_is_not_waited_for() -> None:
    """While a place is free, waiting ends at once, also after places were given back earlier."""
    window = Window(limit=1)

    async with asyncio.timeout(5):
        await window.wait_for_room("a")
        window.take("a", 1)
        window.give_back("a")
        await window.wait_for_room("a")


async def test_who_waits_is_woken_by_a_place() -> None:
    """A full window makes everybody wait until a place is given back."""
    window = Window(limit=2)
    window.take("a", 2)
    waiting = asyncio.create_task(window.wait_for_room("b"))
    await turns()
    assert not waiting.done()

    window.give_back("a")

    async with asyncio.timeout(5):
        await waiting


async def test_all_who_wait_are_woken_and_look_again() -> None:
    """One place wakes everybody; whoever is too late for it waits on."""
    window = Window(limit=1)
    window.take("a", 1)
    got: list[str] = []

    async def wait(client: str) -> None:
        await window.wait_for_room(client)
        window.take(client, 1)
        got.append(client)

    waiting = [asyncio.create_task(wait(name)) for name in ("b", "c")]
    await turns()
    window.give_back("a")
    await turns()
    assert len(got) == 1

    window.give_back(got[0])
    async with asyncio.timeout(5):
        await asyncio.gather(*waiting)
    assert sorted(got) == ["b", "c"]


async def test_who_gives_up_waiting_takes_nothing() -> None:
    """A cancelled wait leaves the places as they were."""
    window = Window(limit=1)
    window.take("a", 1)
    waiting = asyncio.create_task(window.wait_for_room("b"))
    await turns()

    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting
    window.give_back("a")

    assert window.room("c") == 1
