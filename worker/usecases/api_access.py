"""Access to the API: tokens are made here, shown once, and recognized at every request."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from worker.domain.roles import Caller, Role
from worker.domain.secret import Secret
from worker.oauth.registry import Registry
from worker.storage.api_tokens import ApiTokens

#: How an API token begins, so that people and secret scanners know one when they see it.
PREFIX: Final = "evg_"
#: 256 bits: nobody guesses one.
RANDOM_BYTES: Final = 32
#: A name for whoever holds it, not a document.
LONGEST_NAME: Final = 100
#: Longer is no token of ours: it is not even looked for.
_LONGEST: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiAccess:
    """Makes and recognizes API tokens. `random_bytes` and `new_id` are chance."""

    registry: Registry
    tokens: ApiTokens
    random_bytes: Callable[[int], bytes]
    new_id: Callable[[], UUID]

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
        """Return whose a token is, or None where it is none of ours, or good no more."""
        text = token.reveal()
        if not text.startswith(PREFIX) or len(text) > _LONGEST:
            return None
        return await self.tokens.find(token)
