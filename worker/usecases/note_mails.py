"""Noting what owners are to be told: that a grant has died, and that a consent is about to end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from worker.domain.reconsent import MailMode, MailPolicy, next_digest
from worker.oauth.client import Client
from worker.storage.grants import Grants
from worker.storage.mail_origin import MailedClient, cancel_outdated, note_deaths, note_ends


@dataclass(frozen=True, slots=True, kw_only=True)
class MailNotes:
    """Looks for what mails are to be about. Any number may look: each is noted once."""

    engine: AsyncEngine
    grants: Grants
    clients: Mapping[str, Client]
    policy: MailPolicy
    sends: bool  #: whether there is a mail server

    async def note_deaths(self) -> int:
        """Note a mail for each grant that has died lately; returns how many were noted."""
        automatic = self._automatic()
        if not self.sends or not automatic:
            return 0
        digest_at = next_digest(await self.grants.now(), self.policy.digest_at)
        clients = [self._client(name, digest_at) for name in automatic]
        return await note_deaths(self.engine, clients, self.policy.delay)

    async def note_ends(self) -> int:
        """Note the consents that are about to end, each with an event, and cancel mails that nobody needs any more."""
        ending = [name for name, client in self.clients.items() if client.provider.facts.has_fixed_end]
        mailed = frozenset(self._automatic()) if self.sends else frozenset[str]()
        noted = 0
        if ending:
            clients = [self._client(name, None) for name in ending]
            noted = await note_ends(self.engine, clients, mailed=mailed, ahead=self.policy.ahead)
        await cancel_outdated(self.engine)
        return noted

    def _automatic(self) -> list[str]:
        return [name for name, client in self.clients.items() if client.reconsent_mails is not MailMode.MANUAL]

    def _client(self, name: str, digest_at: datetime | None) -> MailedClient:
        client = self.clients[name]
        return MailedClient(
            client=name,
            fallback=", ".join(client.fallback_recipients) or None,
            due_at=digest_at if client.reconsent_mails is MailMode.DIGEST else None,
        )
