"""The misbehaviours that are ordered and not yet done: stored, and picked from memory for each request."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from worker.sandbox.misbehaviour import ORDER, Order, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedOrder:
    """An order in the book. `remaining` requests are still to be met; None where a probability decides."""

    order_id: int
    order: Order
    remaining: int | None


def pick(orders: Iterable[PlacedOrder], draw: Callable[[], float]) -> PlacedOrder | None:
    """Return the order that a request meets: the first that is counted, or whose probability the draw hits."""
    for placed in orders:
        probability = placed.order.probability
        if probability is None or draw() < probability:
            return placed
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """Whom an order waits for; all its orders form one queue."""

    step: Step
    client_id: str | None = None
    family_id: int | None = None


class OrderBook:
    """Places orders and hands out at most one per request: the family's before the client's before everybody's."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._run = connection.execute
        self._targets: dict[int, _Target] = {}
        self._queues: dict[_Target, dict[int, PlacedOrder]] = {}
        for order_id, remaining, content in self._run("SELECT id, remaining, content FROM orders ORDER BY id"):
            order = ORDER.validate_json(content)
            self._put(PlacedOrder(order_id=order_id, order=order, remaining=remaining))

    def place(self, order: Order) -> PlacedOrder:
        """Add an order behind those already placed."""
        order_id = self._run(
            "INSERT INTO orders (remaining, content) VALUES (?, ?)", (order.times, ORDER.dump_json(order))
        ).lastrowid
        assert order_id is not None
        placed = PlacedOrder(order_id=order_id, order=order, remaining=order.times)
        self._put(placed)
        return placed

    def all(self) -> list[PlacedOrder]:
        """Return what is ordered and not yet done, oldest first."""
        return [self._queues[target][order_id] for order_id, target in self._targets.items()]

    def cancel(self, order_id: int) -> bool:
        """Take an order out of the book; return whether it was there."""
        target = self._targets.pop(order_id, None)
        if target is None:
            return False
        queue = self._queues[target]
        del queue[order_id]
        if not queue:
            del self._queues[target]
        self._run("DELETE FROM orders WHERE id = ?", (order_id,))
        return True

    def take(self, *, step: Step, client_id: str, family_id: int | None, draw: Callable[[], float]) -> Order | None:
        """Return the misbehaviour that this request meets and count it as done, or None."""
        if not self._queues:
            return None
        targets = [_Target(step=step, client_id=client_id), _Target(step=step)]
        if family_id is not None:
            targets.insert(0, _Target(step=step, family_id=family_id))
        for target in targets:
            placed = pick(self._queues.get(target, {}).values(), draw)
            if placed is not None:
                self._use(placed)
                return placed.order
        return None

    def _put(self, placed: PlacedOrder) -> None:
        order = placed.order
        target = _Target(step=order.step, client_id=order.client_id, family_id=order.family_id)
        self._targets[placed.order_id] = target
        self._queues.setdefault(target, {})[placed.order_id] = placed

    def _use(self, placed: PlacedOrder) -> None:
        match placed.remaining:
            case None:
                pass
            case 1:
                self.cancel(placed.order_id)
            case remaining:
                self._put(replace(placed, remaining=remaining - 1))
                self._run("UPDATE orders SET remaining = remaining - 1 WHERE id = ?", (placed.order_id,))
