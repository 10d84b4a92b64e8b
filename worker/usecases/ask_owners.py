"""Asking owners to authorize again: by an operator, one grant or many; or because an owner wants a new link."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from worker.domain.reconsent import Asker, MailKind, MailPolicy, WhyNot, why_not
from worker.oauth.registry import Registry
from worker.storage.mail_addressees import Candidate, MailAddressees

#: Grants looked at, and asked about, in one transaction.
PAGE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One grant, and whether its owner is mailed."""

    candidate: Candidate
    why_not: WhyNot | None
    mail_id: UUID | None = None  #: of the mail that was asked for; None in a dry run

    def was_asked_since(self, begun: datetime) -> bool:
        """Tell whether a mail is asked for now, or was since an instant: a request that comes twice says the same."""
        asked_at = self.candidate.asked_at
        return self.why_not is None or (asked_at is not None and asked_at >= begun)


@dataclass(frozen=True, slots=True, kw_only=True)
class MailRequests:
    """Asks for mails; workers send them."""

    addressees: MailAddressees
    registry: Registry
    policy: MailPolicy
    sends: bool  #: whether there is a mail server

    async def ask(self, grant_ids: Sequence[UUID], asker: Asker, *, dry_run: bool = False) -> list[Asked]:
        """Ask for a mail about each of these grants; those that there are not are missing in the answer."""
        found: list[Asked] = []
        for first in range(0, len(grant_ids), PAGE):
            page = await self.addressees.by_id(grant_ids[first : first + PAGE])
            found += await self._ask(page, asker, dry_run=dry_run)
        return found

    async def ask_all(
        self, client: str | None, *, after: tuple[str, str] | None = None, dry_run: bool = False
    ) -> AsyncIterator[list[Asked]]:
        """Ask for a mail about every grant that needs its owner, some hundreds at a time.

        Args:
            client: only this client's; None: all.
            after: client and subject of the last grant that was asked about before; None: begin with the first.
            dry_run: only say what would be.

        Raises:
            ConfigurationError: when the client is not configured.

        """
        if client is not None:
            self.registry.client(client)
        while True:
            page = await self.addressees.in_need(client=client, after=after, limit=PAGE)
            if page:
                yield await self._ask(page, Asker.OPERATOR_IN_BULK, dry_run=dry_run)
            if len(page) < PAGE:
                return
            after = (page[-1].client, page[-1].subject)

    async def _ask(self, page: Sequence[Candidate], asker: Asker, *, dry_run: bool) -> list[Asked]:
        reasons = {found.grant_id: why_not(found.addressee, asker, self.policy, found.now) for found in page}
        wanted = [found for found in page if reasons[found.grant_id] is None]
        kind = MailKind.OWNER if asker is Asker.OWNER else MailKind.OPERATOR
        mails = await self.addressees.ask(wanted, kind) if wanted and not dry_run else {}
        return [self._asked(found, reasons[found.grant_id], mails, dry_run=dry_run) for found in page]

    def _asked(self, found: Candidate, reason: WhyNot | None, mails: dict[UUID, UUID], *, dry_run: bool) -> Asked:
        mail_id = mails.get(found.grant_id)
        if reason is None and mail_id is None and not dry_run:
            reason = WhyNot.UNDER_WAY  # somebody else asked at the same moment
        return Asked(candidate=found, why_not=reason, mail_id=mail_id)
