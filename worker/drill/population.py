"""The grants of a drill: made at the sandbox, adopted by Evergrant, and replaced when they end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from worker.bootstrap import Container
from worker.sandbox.control import SandboxControl, SeededGrant

#: Seconds that the first access tokens live at most: spread, so that a drill does not begin with a storm.
_SPREAD: Final = 20


class Population:
    """Keeps each client at its number of grants: for each one that has ended, another owner comes.

    Args:
        control: the sandbox's.
        create: makes a container on the drill's own connections; called on the loop that it will live on.
        grants: how many grants each client has.

    Attributes:
        families: the family at the sandbox of each grant, by client and subject.
        spuriously_refused: the grants that a fault has had refused, though they are alive.

    """

    def __init__(self, control: SandboxControl, create: Callable[[], Container], grants: Mapping[str, int]) -> None:
        self._control = control
        self._grants = grants
        self._runner = asyncio.Runner()
        self._container = self._runner.run(_on_loop(create))
        self._waiting: list[tuple[str, SeededGrant]] = []
        self._made = dict.fromkeys(grants, 0)
        self.families: dict[tuple[str, str], int] = {}
        self.spuriously_refused: set[tuple[str, str]] = set()

    def fill(self, alive: Mapping[str, int]) -> None:
        """Make and adopt what is missing; what the database does not take now is adopted at the next call.

        Args:
            alive: how many grants of each client are kept alive now.

        """
        for client, wanted in self._grants.items():
            waiting = sum(name == client for name, _grant in self._waiting)
            missing = wanted - alive.get(client, 0) - waiting
            if missing > 0:
                self._make(client, missing)
        self._runner.run(self._adopt())

    def close(self) -> None:
        """Adopt what still waits, and close the connections."""
        self._runner.run(self._adopt())
        self._runner.run(self._container.close())
        self._runner.close()

    def _make(self, client: str, missing: int) -> None:
        first = self._made[client] + 1
        self._made[client] += missing
        # One by one: each gets a lifetime of its own, so that they do not all come due together.
        for number in range(first, first + missing):
            lifetime = 2 + number % _SPREAD
            (grant,) = self._control.seed_grants(client, 1, first_number=number, access_lifetime=lifetime)
            self.families[client, grant.account] = grant.family_id
            self._waiting.append((client, grant))

    async def _adopt(self) -> None:
        while self._waiting:
            client, grant = self._waiting[0]
            try:
                await self._container.adoption.adopt(
                    client,
                    grant.account,
                    refresh_token=grant.refresh_token,
                    access_token=grant.access_token,
                    expires_in=timedelta(seconds=grant.expires_in),
                )
            except (SQLAlchemyError, OSError):
                return
            del self._waiting[0]


async def _on_loop(create: Callable[[], Container]) -> Container:
    return create()
