"""Which tickets a tick sends."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.domain.dispatch import COUNTED_AT_MOST, GRANTS_PER_TICKET, MOST_TICKETS, DueGrants, Ticket, tickets

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

due_lists = st.lists(
    st.builds(
        DueGrants,
        client=st.sampled_from([f"client-{number}" for number in range(12)]),
        count=st.integers(min_value=0, max_value=COUNTED_AT_MOST * 3),
        oldest=st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=2)).map(lambda ago: NOON - ago),
    ),
    unique_by=lambda found: found.client,
)


def due(client: str, count: int, *, minutes: int = 0) -> DueGrants:
    """Return what a scan found for one client, the oldest due so many minutes ago."""
    return DueGrants(client=client, count=count, oldest=NOON - timedelta(minutes=minutes))


@pytest.mark.parametrize(
    ("count", "sent"),
    [
        (0, 0),
        (1, 1),
        (GRANTS_PER_TICKET, 1),
        (GRANTS_PER_TICKET + 1, 2),
        (COUNTED_AT_MOST, MOST_TICKETS),
        (10**6, MOST_TICKETS),
    ],
)
def test_tickets_by_what_is_due(count: int, sent: int) -> None:
    """One ticket for each 200 grants that are due, none for nothing, and never more than eight."""
    assert tickets([due("acme", count)]) == [Ticket(client="acme")] * sent


def test_an_overdue_client_does_not_queue_before_everybody_else() -> None:
    """The client that waits longest comes first, and further tickets follow in turns."""
    sent = tickets([due("small", 1, minutes=1), due("huge", 10**6, minutes=60), due("middle", 500, minutes=5)])

    assert [ticket.client for ticket in sent[:5]] == ["huge", "middle", "small", "huge", "middle"]
    assert [ticket.client for ticket in sent[5:]] == ["huge", "middle", "huge", "huge", "huge", "huge", "huge"]


@settings(deadline=None)
@given(found=due_lists)
def test_tickets_are_fair(found: list[DueGrants]) -> None:
    """Each client gets its share, in turns, and in each turn the client that waits longest comes first."""
    sent = [ticket.client for ticket in tickets(found)]

    wanted = {one.client: min(MOST_TICKETS, -(-one.count // GRANTS_PER_TICKET)) for one in found if one.count}
    assert Counter(sent) == wanted
    oldest = {one.client: (one.oldest, one.client) for one in found}
    turns: list[list[str]] = []
    for client in sent:
        turn = sum(client in earlier for earlier in turns)
        if turn == len(turns):
            turns.append([])
        assert turn == len(turns) - 1, "a ticket of an earlier turn came after one of a later turn"
        turns[turn].append(client)
    assert all(turn == sorted(turn, key=oldest.__getitem__) for turn in turns)


@settings(deadline=None)
@given(found=due_lists, data=st.data())
def test_the_order_of_the_scan_does_not_matter(found: list[DueGrants], data: st.DataObject) -> None:
    """Whatever order the scan found clients in, the same tickets are sent."""
    shuffled = data.draw(st.permutations(found))

    assert tickets(shuffled) == tickets(found)
