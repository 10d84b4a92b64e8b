"""Access to the API: tokens are made here, shown once, and recognized at every request."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from uuid import UUID

from worker.domain.roles import Caller, Role
from worker.domain.secret import Secret
from worker.oauth.registry import Registry
from worker.storage.api_tokens import ApiTokens, token_hash
from worker.storage.away import AWAY

#: How an API token begins, so that people and secret scanners know one when they see it.
PREFIX: Final = "evg_"
#: 256 bits: nobody guesses one.
RANDOM_BYTES: Final = 32
#: A name for whoever holds it, not a document.
LONGEST_NAME: Final = 100
#: Longer is no token of ours: it is not even looked for.
_LONGEST: Final = 256
#: Seconds for which a token that was found good is good without another look: so soon is a revocation heeded.
KNOWN_SECONDS: Final = 2.0
#: Callers that are remembered; beyond, each request looks.
_MOST_KNOWN: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiAccess:
    """Makes and recognizes API tokens. `random_bytes` and `new_id` are chance, `tick` the monotonic clock."""

    registry: Registry
    tokens: ApiTokens
    random_bytes: Callable[[int], bytes]
    new_id: Callable[[], UUID]
    tick: Callable[[], float]
    _known: dict[bytes, tuple[Caller, float]] = field(default_factory=dict, init=False)
    _looking: dict[bytes, asyncio.Task[Caller | None]] = field(default_factory=dict, init=False)
    _noting: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    async def create(
        self, role: Role, *, client: str | None = None, name: str | None = None, lifetime: timedelta | None = None
    ) -> tuple[UUID, Secret]:
        """Make an API token and return it with its id: this is the only time that it can be had.

        Args:
            role: what its holder may do.
            client: the one client it is good for; None: for all.
            name: what its holder is called in lists.
            lifetime: how long it is good; None: until it is revoked.

        Raises:
            ConfigurationError: when the client is not configured.

        """
        if client is not None:
            self.registry.client(client)
        random = base64.urlsafe_b64encode(self.random_bytes(RANDOM_BYTES)).rstrip(b"=").decode("ascii")
        token, token_id = Secret(PREFIX + random), self.new_id()
        await self.tokens.add(token_id, token, role=role, client=client, name=name, lifetime=lifetime)
        return token_id, token

    async def recognize(self, token: Secret) -> Caller | None:
        """Return whose a token is, or None where it is none of ours, or good no more.

        What was found good is remembered for `KNOWN_SECONDS`, by its hash; when it was last used is noted later.
        """
        text = token.reveal()
        if not text.startswith(PREFIX) or len(text) > _LONGEST:
            return None
        which, now = token_hash(token), self.tick()
        known = self._known.get(which)
        if known is not None and now < known[1]:
            return known[0]
        # A crowd that comes with one token looks once: it would stand before the database, and before what it came for.
        looking = self._looking.get(which)
        if looking is None:
            looking = self._looking[which] = asyncio.create_task(self._look(which, now))
            looking.add_done_callback(lambda _task: self._looking.pop(which))
        return await asyncio.shield(looking)

    async def _look(self, which: bytes, now: float) -> Caller | None:
        found = await self.tokens.find(which)
        if found is None:
            self._known.pop(which, None)
            return None
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[which] = (found.caller, now + min(KNOWN_SECONDS, found.seconds_left))
        if found.is_use_due:
            noting = asyncio.create_task(self._note_use(found.caller.id))
            self._noting.add(noting)
            noting.add_done_callback(self._noting.discard)
        return found.caller

    async def close(self) -> None:
        """Wait until what was used is noted."""
        await asyncio.gather(*self._noting)

    async def _note_use(self, token_id: UUID) -> None:
        with suppress(*AWAY):  # it is noted at a later use
            await self.tokens.note_use(token_id)
