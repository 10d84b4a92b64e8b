"""The link in a mail: what it leads to, using it once, and asking for a new one.

Looking changes nothing, for mail scanners open every link. Pressing its button begins the same consent as /connect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from uuid import UUID

from worker.domain.errors import ConfigurationError
from worker.domain.reconsent import Asker, WhyNot
from worker.domain.secret import Secret
from worker.storage.away import AWAY
from worker.storage.grants import Grants
from worker.storage.link_signing import Link, read_link
from worker.storage.mail_links import LinkedGrant, MailLinks, Standing
from worker.storage.sealing import KeyRing
from worker.usecases.ask_owners import MailRequests
from worker.usecases.consent import ConsentFlow
from worker.usecases.consent_results import ConsentStarted


class LinkRefused(Enum):
    """Why a link leads nowhere at all."""

    UNKNOWN = auto()  #: not signed by us, or its mail is long gone
    EXPIRED = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedLink:
    """What a link is about."""

    message_id: UUID
    expires_at: datetime
    grants: Sequence[LinkedGrant]


@dataclass(frozen=True, slots=True, kw_only=True)
class NotOpen:
    """The grant is not to be authorized with this link."""

    grant: LinkedGrant


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconsentFlow:
    """Follows links."""

    keys: KeyRing
    links: MailLinks
    grants: Grants
    consent: ConsentFlow
    requests: MailRequests

    async def open(self, text: Secret) -> OpenedLink | LinkRefused:
        """Return what a link is about, changing nothing. One that has run out tells no more about its grants."""
        link = read_link(text, self.keys)
        found = await self._found(link) if link is not None else None
        if found is None:
            return LinkRefused.UNKNOWN
        return found if found.expires_at > await self.grants.now() else LinkRefused.EXPIRED

    async def press(
        self, text: Secret, grant_id: UUID, browser: Secret | None
    ) -> ConsentStarted | NotOpen | LinkRefused:
        """Use a link for one of its grants, and begin the consent.

        Args:
            text: the link's last part.
            grant_id: one of those that the link is about.
            browser: the mark that this browser has from an earlier consent.

        Raises:
            ConfigurationError: when the grant's client is not configured any more.

        """
        opened = await self.open(text)
        if isinstance(opened, LinkRefused):
            return opened
        grant = next((found for found in opened.grants if found.grant_id == grant_id), None)
        if grant is None:
            return LinkRefused.UNKNOWN
        if grant.standing is not Standing.OPEN:
            return NotOpen(grant=grant)
        if not await self.links.use(opened.message_id, grant_id):
            return NotOpen(grant=await self._now(opened.message_id, grant))
        try:
            return await self.consent.begin(grant.client, grant.subject, None, browser)
        except (*AWAY, ConfigurationError):
            await self.links.release(opened.message_id, grant_id)
            raise

    async def ask_again(self, text: Secret) -> WhyNot | LinkRefused | None:
        """Send a new link to where the first one went; None: it goes out. The link that asks may have run out."""
        link = read_link(text, self.keys)
        found = await self._found(link) if link is not None else None
        if found is None:
            return LinkRefused.UNKNOWN
        asked = await self.requests.ask([grant.grant_id for grant in found.grants], Asker.OWNER)
        if not asked or any(one.why_not is None for one in asked):
            return None if asked else WhyNot.NOT_NEEDED
        reasons = [one.why_not for one in asked if one.why_not is not WhyNot.NOT_NEEDED]
        return reasons[0] if reasons else WhyNot.NOT_NEEDED

    async def _found(self, link: Link) -> OpenedLink | None:
        grants = await self.links.find(link.message_id)
        if not grants:
            return None
        return OpenedLink(message_id=link.message_id, expires_at=link.expires_at, grants=grants)

    async def _now(self, message_id: UUID, grant: LinkedGrant) -> LinkedGrant:
        found = await self.links.find(message_id)
        return next((now for now in found if now.grant_id == grant.grant_id), grant)
