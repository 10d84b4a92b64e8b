"""Which delayed answers still have a client waiting for them.

A client that gave up and tries again must not be blamed for a double spend: its first connection is closed by then,
though the delayed answer has not found out yet.
"""

from __future__ import annotations

from collections.abc import Callable

ClientIsThere = Callable[[], bool]
"""Tells whether the connection that a request came over is still open."""


class AnswersInFlight:
    """Remembers, by the consumed token's hash, the connections over which its answer is to go."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, list[ClientIsThere]] = {}

    def add(self, refresh_hash: bytes, client_is_there: ClientIsThere) -> None:
        """Remember a connection whose answer is delayed."""
        self._waiting.setdefault(refresh_hash, []).append(client_is_there)

    def remove(self, refresh_hash: bytes, client_is_there: ClientIsThere) -> None:
        """Forget a connection whose answer was sent or is pointless."""
        waiting = self._waiting[refresh_hash]
        waiting.remove(client_is_there)
        if not waiting:
            del self._waiting[refresh_hash]

    def anybody_waits(self, refresh_hash: bytes) -> bool:
        """Return whether a delayed answer for this token still has an open connection."""
        return any(client_is_there() for client_is_there in self._waiting.get(refresh_hash, ()))
