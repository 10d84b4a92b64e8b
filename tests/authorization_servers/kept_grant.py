"""One grant at an authorization server, consented to and kept alive by Evergrant's own use cases and storage."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

from tests.authorization_servers.conformance import CLIENT
from tests.authorization_servers.consent_forms import walk_consent
from tests.authorization_servers.plain_client import open_http
from tests.support.database import value
from tests.support.sandbox_clients import make_due
from worker.bootstrap import Container
from worker.domain.outcome import Outcome
from worker.domain.secret import Secret
from worker.oauth.client import Client
from worker.storage.grants import GrantView
from worker.storage.sealing import ACCESS_TOKEN, REFRESH_TOKEN, KeyRing
from worker.usecases.consent_results import GrantStored

#: Who consents, here and at the server.
OWNER: Final = "ada"
_DRAIN_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptGrant:
    """A stored grant, the container that keeps it alive, and the key ring that opens its tokens."""

    id: UUID
    container: Container
    key_ring: KeyRing

    @property
    def client(self) -> Client:
        """The client as it is configured."""
        return self.container.configuration.registry.client(CLIENT)

    async def view(self) -> GrantView:
        """Read the grant."""
        found = await self.container.grants.find(CLIENT, OWNER)
        assert found is not None
        assert found.id == self.id
        return found

    async def access_token(self) -> Secret:
        """Read the stored access token."""
        sealed = await value(self.container, "SELECT access_token FROM grants")
        return self.key_ring.open(sealed, ACCESS_TOKEN, self.id)

    async def refresh_token(self) -> Secret:
        """Read the stored refresh token."""
        sealed = await value(self.container, "SELECT refresh_token FROM grants")
        return self.key_ring.open(sealed, REFRESH_TOKEN, self.id)

    async def refresh_as_due(self) -> GrantView:
        """Let the grant fall due, do what a ticket asks for, and read what became of it."""
        await make_due(self.container)
        assert await self.container.drains.drain(self.client, _DRAIN_SECONDS) == 1
        return await self.view()

    async def present(self, refresh_token: Secret) -> Outcome:
        """Present a refresh token past the storage, as whoever holds a copy of it might, and say what came of it."""
        return (await self.container.rotation.token_endpoint.refresh(self.client, refresh_token)).outcome


async def consent(container: Container) -> GrantStored:
    """Send an owner to the server and through its forms, and finish with what their browser brings back."""
    started = await container.consent.begin(CLIENT, OWNER, None, None)
    with open_http() as browser:
        callback = await asyncio.to_thread(walk_consent, browser, started.location.reveal(), OWNER)
    stored = await container.consent.finish(dict(parse_qsl(urlsplit(callback).query)), started.browser)
    assert isinstance(stored, GrantStored), stored
    return stored
