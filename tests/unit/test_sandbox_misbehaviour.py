"""Orders for misbehaviour, and the replies that follow from them, without a network."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from worker.domain.secret import Secret
from worker.sandbox.misbehaviour import ORDER, Misbehaviour, Order, Step, processes, rotates, withholds
from worker.sandbox.order_book import OrderBook, PlacedOrder, pick
from worker.sandbox.profiles import ASKARA
from worker.sandbox.refusal import invalid_grant
from worker.sandbox.replies import Answered, Dropped, token_reply, unprocessed_reply
from worker.sandbox.store import Store
from worker.sandbox.token_answer import TokenAnswer

ANSWER = TokenAnswer(access_token=Secret("new access"), refresh_token=Secret("new refresh"), expires_in=60, scope="a")


def never() -> float:
    """Fail: no draw is due."""
    raise AssertionError("drawn without need")


@pytest.mark.parametrize("kind", Misbehaviour)
@pytest.mark.parametrize("after_rotating", [False, True])
def test_every_kind_has_exactly_one_reply(kind: Misbehaviour, after_rotating: bool) -> None:
    """A kind is answered either unprocessed or after processing, and asking for the other reply is an error."""
    order = Order(kind=kind, times=1, after_rotating=after_rotating)
    if processes(order):
        token_reply(ASKARA, ANSWER, order)
        if kind is not Misbehaviour.HTML_PAGE:
            with pytest.raises(ValueError, match="processed before it shows"):
                unprocessed_reply(order, now=0.0)
    else:
        assert isinstance(unprocessed_reply(order, now=0.0), Answered)
        if kind is not Misbehaviour.HTML_PAGE:
            with pytest.raises(ValueError, match="keeps a request from being processed"):
                token_reply(ASKARA, ANSWER, order)


@pytest.mark.parametrize("kind", [kind for kind in Misbehaviour if processes(Order(kind=kind, times=1))])
@pytest.mark.parametrize("after_rotating", [False, True])
def test_withheld_means_that_a_plain_reader_gets_no_new_refresh_token(kind: Misbehaviour, after_rotating: bool) -> None:
    """What counts as withheld is exactly what a reader of ordinary JSON answers cannot take the new token from."""
    order = Order(kind=kind, times=1, size=2_000_000, after_rotating=after_rotating)

    reply = token_reply(ASKARA, ANSWER, order)

    gets_it = (
        isinstance(reply, Answered)
        and reply.status == 200
        and len(reply.body) < 1_000_000
        and "new refresh" in reply.body.decode()
        and reply.body.endswith(b"}")
    )
    assert withholds(order) is not gets_it


@pytest.mark.parametrize("kind", [kind for kind in Misbehaviour if processes(Order(kind=kind, times=1))])
def test_faults_meet_refusals_too(kind: Misbehaviour) -> None:
    """A refusal that was due anyway is answered under every fault without tripping over what it does not have."""
    reply = token_reply(ASKARA, invalid_grant("no"), Order(kind=kind, times=1, size=10))

    if kind in {Misbehaviour.OMITTED_EXPIRES_IN, Misbehaviour.ABSURD_EXPIRES_IN, Misbehaviour.STALL}:
        assert isinstance(reply, Answered)
        assert json.loads(reply.body)["error"] == "invalid_grant"


def test_a_lost_reply_is_nothing_at_all() -> None:
    """The reply to a lost one is the dropped connection."""
    assert token_reply(ASKARA, ANSWER, Order(kind=Misbehaviour.LOST_REPLY, times=1)) == Dropped()


def test_only_an_omitted_refresh_token_may_leave_the_old_one() -> None:
    """Every other fault that is processed rotates."""
    keeping = {kind for kind in Misbehaviour if not rotates(Order(kind=kind, times=1))}

    assert keeping == {Misbehaviour.OMITTED_REFRESH_TOKEN}
    assert rotates(Order(kind=Misbehaviour.OMITTED_REFRESH_TOKEN, times=1, after_rotating=True))
    assert rotates(None)


@pytest.mark.parametrize(
    ("details", "said"),
    [
        ({}, "either `times` or `probability`"),
        ({"times": 1, "probability": 0.5}, "either `times` or `probability`"),
        ({"times": 0}, "greater than or equal to 1"),
        ({"probability": 0.0}, "greater than 0"),
        ({"times": 1, "client_id": "a", "family_id": 1}, "not for both"),
        ({"times": 1, "stall": 601}, "less than or equal to 600"),
        ({"times": 1, "kind": Misbehaviour.ERROR_AFTER, "status": 404}, "500 to 599"),
    ],
)
def test_an_order_that_contradicts_itself_cannot_be_made(details: dict[str, object], said: str) -> None:
    """Each contradiction is told where the order is made."""
    with pytest.raises(ValidationError, match=said):
        ORDER.validate_python({"kind": Misbehaviour.STALL} | details)


@given(
    order=st.builds(
        Order,
        kind=st.sampled_from(Misbehaviour),
        times=st.integers(min_value=1, max_value=9),
        client_id=st.none() | st.text(),
        expires_in=st.none() | st.integers() | st.text(max_size=5),
        after_rotating=st.booleans(),
    )
)
def test_an_order_survives_its_json(order: Order) -> None:
    """An order read back from what was written is the same order."""
    assert ORDER.validate_json(ORDER.dump_json(order)) == order


@given(probabilities=st.lists(st.floats(min_value=0.01, max_value=1), max_size=5), draw=st.floats(0, 0.999))
def test_the_first_probability_that_the_draw_hits_is_picked(probabilities: list[float], draw: float) -> None:
    """Orders are asked in their turn, and one is picked exactly when some probability exceeds the draw."""
    placed = [
        PlacedOrder(order_id=index, order=Order(kind=Misbehaviour.STALL, probability=probability), remaining=None)
        for index, probability in enumerate(probabilities)
    ]

    picked = pick(placed, lambda: draw)

    hits = [index for index, probability in enumerate(probabilities) if draw < probability]
    assert (picked.order_id if picked else None) == (hits[0] if hits else None)


def take(book: OrderBook, draw: Callable[[], float] = never) -> Misbehaviour | None:
    """Take the order for a refresh of client `us`, family 1."""
    order = book.take(step=Step.REFRESH, client_id="us", family_id=1, draw=draw)
    return None if order is None else order.kind


@pytest.fixture
def connection() -> sqlite3.Connection:
    """Return the connection of a state in memory."""
    return Store(None).connection


def test_counted_orders_are_done_in_their_turn_and_survive_reopening(connection: sqlite3.Connection) -> None:
    """A book opened again on the same state goes on where the other stopped."""
    book = OrderBook(connection)
    book.place(Order(kind=Misbehaviour.STALL, times=2, family_id=1))
    book.place(Order(kind=Misbehaviour.THROTTLED, times=1, family_id=1))
    assert take(book) is Misbehaviour.STALL

    again = OrderBook(connection)

    assert [take(again), take(again), take(again)] == [Misbehaviour.STALL, Misbehaviour.THROTTLED, None]
    assert OrderBook(connection).all() == []
    connection.close()


def test_a_missed_probability_lets_the_next_order_come(connection: sqlite3.Connection) -> None:
    """Where the draw misses the family's order, the client's is asked, then everybody's."""
    book = OrderBook(connection)
    book.place(Order(kind=Misbehaviour.THROTTLED, probability=0.3, family_id=1))
    book.place(Order(kind=Misbehaviour.STALL, probability=0.6, client_id="us"))
    book.place(Order(kind=Misbehaviour.LOST_REPLY, times=1))

    taken = [take(book, lambda draw=draw: draw) for draw in (0.2, 0.5, 0.9, 0.9)]  # type: ignore[misc]

    assert taken == [Misbehaviour.THROTTLED, Misbehaviour.STALL, Misbehaviour.LOST_REPLY, None]
    connection.close()
