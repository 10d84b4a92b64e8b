"""Adopting grants: their tokens come from elsewhere and are kept alive from now on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from pydantic import SecretStr

from worker.domain import schedule
from worker.domain.account import ToldAccount
from worker.domain.adoption import Verdict, is_shareable
from worker.domain.facts import Keep, TokenFacts
from worker.domain.first_refresh import first_refresh
from worker.domain.secret import Secret
from worker.oauth.captured import captured_from_elsewhere
from worker.oauth.client import Client
from worker.oauth.registry import Registry
from worker.storage.adoptions import Adopted, Adoptions, OfferedGrant
from worker.storage.grants import Grants
from worker.storage.new_grants import NewGrant
from worker.usecases.offer import LONGEST_LIFE, Complaint, Offer

#: How far another machine's clock may be ahead of the database's.
CLOCK_SKEW: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The offered grant cannot be kept alive as it is."""

    complaints: tuple[Complaint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """Adopts grants. `new_id` and `draw` are chance."""

    registry: Registry
    adoptions: Adoptions
    grants: Grants
    new_id: Callable[[], UUID]
    draw: Callable[[], float]

    async def adopt(
        self,
        client: str,
        subject: str,
        *,
        refresh_token: Secret,
        access_token: Secret | None = None,
        expires_in: timedelta | None = None,
        email: str | None = None,
    ) -> tuple[UUID, Verdict]:
        """Take over a grant whose tokens are at hand, as `take` does.

        Raises:
            ConfigurationError: when the client is not configured.
            ValueError: when it cannot be kept alive as it is.

        """
        offer = Offer(
            client=client,
            subject=subject,
            refresh_token=SecretStr(refresh_token.reveal()),
            access_token=SecretStr(access_token.reveal()) if access_token is not None else None,
            expires_in=round(expires_in.total_seconds()) if expires_in is not None else None,
            email=email,
        )
        taken = await self.take(offer)
        if isinstance(taken, Refused):
            why = "; ".join(str(complaint) for complaint in taken.complaints)
            raise ValueError(why)  # noqa: TRY004 -- a value of ours tells that one of the caller's is wrong
        return taken.grant_id, taken.verdict

    async def take(self, offer: Offer) -> Adopted | Refused:
        """Take over a grant, unless its client and subject have one already, or another has its refresh token.

        Without an access token, or without knowing how long it still lives, the grant is due at once.

        Raises:
            ConfigurationError: when the client is not configured.

        """
        client = self.registry.client(offer.client)
        prepared = self.prepare(client, offer, now=await self.grants.now(), wait=None)
        if isinstance(prepared, Refused):
            return prepared
        [adopted] = await self.adoptions.adopt([prepared])
        return adopted

    def prepare(self, client: Client, offer: Offer, *, now: datetime, wait: timedelta | None) -> OfferedGrant | Refused:
        """Work out what would be stored.

        Args:
            client: the one that the offer names.
            offer: the tokens and what is known of them.
            now: the database's clock.
            wait: its turn among those that are adopted together; None: it is adopted alone.

        """
        captured = captured_from_elsewhere(client, offer.captured)
        complaints = [*_complaints(offer, now)]
        if isinstance(captured, str):
            return Refused(complaints=(*complaints, Complaint(field="captured", text=captured)))
        if complaints:
            return Refused(complaints=tuple(complaints))
        facts = client.provider.facts
        consented_at = min(offer.consented_at, now) if offer.consented_at is not None else None
        access_token = _secret(offer.access_token)
        access_expires_at = _access_end(offer, now) if access_token is not None else None
        if not facts.is_refreshed:
            # It has one token that does not end, whatever it was called where it comes from.
            access_token = access_token or _secret(offer.refresh_token)
            access_expires_at = access_expires_at or now + schedule.LONGEST_LIFETIME
        access = access_expires_at - now if access_expires_at is not None else None
        refresh = offer.refresh_expires_at - now if offer.refresh_expires_at is not None else None
        is_known = access is not None and access > timedelta(0)
        grant = NewGrant(
            client=client.name,
            subject=offer.subject,
            refresh_token=Secret(offer.refresh_token.get_secret_value()),
            access_token=access_token,
            issued_at=now if is_known else None,
            access_expires_at=access_expires_at,
            refresh_expires_at=_refresh_end(offer.refresh_expires_at, consented_at, facts),
            rotate_at=self._due(client.keep, facts, now=now, access=access, refresh=refresh, wait=wait),
            scopes=tuple(offer.scopes) if offer.scopes else client.scopes or None,
            email=offer.email,
            account=ToldAccount(id=offer.account),
            captured=captured,
        )
        return OfferedGrant(
            grant_id=self.new_id(), grant=grant, consented_at=consented_at, is_shareable=is_shareable(facts)
        )

    def _due(
        self,
        keep: Keep,
        facts: TokenFacts,
        *,
        now: datetime,
        access: timedelta | None,
        refresh: timedelta | None,
        wait: timedelta | None,
    ) -> datetime:
        draw = self.draw()
        if wait is not None:
            return first_refresh(now=now, keep=keep, facts=facts, access=access, refresh=refresh, wait=wait, draw=draw)
        if facts.is_refreshed and (access is None or access <= timedelta(0)):
            return now
        return schedule.rotate_at(
            issued_at=now,
            keep=keep,
            facts=facts,
            access=min(access or schedule.LONGEST_LIFETIME, schedule.LONGEST_LIFETIME),
            refresh=refresh,
            draw=draw,
        )


def _complaints(offer: Offer, now: datetime) -> Sequence[Complaint]:
    found = []
    if offer.expires_in is not None and offer.access_expires_at is not None:
        found.append(Complaint(field="expires_in", text="says what access_expires_at says: give one of them"))
    if offer.refresh_expires_at is not None and offer.refresh_expires_at <= now:
        found.append(Complaint(field="refresh_expires_at", text="is past: its owner has to authorize again"))
    if offer.consented_at is not None and offer.consented_at > now + CLOCK_SKEW:
        found.append(Complaint(field="consented_at", text="is in the future"))
    for field, token in (("refresh_token", offer.refresh_token), ("access_token", offer.access_token)):
        value = token.get_secret_value() if token is not None else ""
        if value != value.strip():
            found.append(Complaint(field=field, text="begins or ends with white space, which no token does"))
    return found


def _secret(value: SecretStr | None) -> Secret | None:
    return Secret(value.get_secret_value()) if value is not None else None


def _access_end(offer: Offer, now: datetime) -> datetime | None:
    if offer.expires_in is not None:
        return now + timedelta(seconds=offer.expires_in)
    return offer.access_expires_at


def _refresh_end(offered: datetime | None, consented_at: datetime | None, facts: TokenFacts) -> datetime | None:
    """Return when the refresh token ends: as offered, or where the provider's facts count from the consent."""
    if facts.refresh_lifetime is None or consented_at is None:
        return offered
    end = consented_at + min(facts.refresh_lifetime, timedelta(seconds=LONGEST_LIFE))
    return min(end, offered) if offered is not None else end
