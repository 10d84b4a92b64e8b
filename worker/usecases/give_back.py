"""Giving back what is not needed: the tokens that a consent has replaced, and those of a consent that is not stored.

Where nobody has said that a revocation ends one token's own line alone, it may end everything that an owner has given
to this registration. So nothing is given back that could take a grant of ours with it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from worker.domain.account import ToldAccount
from worker.domain.secret import Secret
from worker.oauth.client import Client
from worker.oauth.provider_kinds import Revocation
from worker.oauth.registry import Registry
from worker.oauth.token_tools import TokenTools
from worker.storage.away import AWAY
from worker.storage.consents import FormerTokens
from worker.storage.new_grants import NewGrant
from worker.storage.shared_accounts import SharedAccounts


@dataclass(frozen=True, slots=True, kw_only=True)
class Unneeded:
    """Tokens that are not needed any more, of a client.

    `is_only_of` is the account that a revocation may end altogether, once no grant of ours is for it; None where only
    the tokens' own line may end.
    """

    client: str
    refresh_token: Secret
    access_token: Secret | None
    captured: Mapping[str, str]
    is_only_of: str | None = None


def replaced(client: Client, former: FormerTokens | None, now: NewGrant) -> Unneeded | None:
    """Return the former tokens of a grant whose owner has authorized again, if they can be given back.

    Only where the new ones survive that: the provider ends one token's line alone, and has not given the same again.
    """
    if (
        former is None
        or client.provider.revocation is not Revocation.TOKEN
        or former.refresh_token == now.refresh_token
    ):
        return None
    return Unneeded(
        client=client.name,
        refresh_token=former.refresh_token,
        access_token=former.access_token,
        captured=former.captured,
    )


def unwanted(client: Client, grant: NewGrant, told: ToldAccount, stored: Collection[Secret] = ()) -> Unneeded | None:
    """Return the tokens of a consent that was not stored, if they can be given back.

    Args:
        client: that they were issued to.
        grant: what would have been stored.
        told: whose account they are for.
        stored: refresh tokens that are in use.

    """
    if client.provider.revocation_endpoint is None or grant.refresh_token in stored:
        return None
    is_line_only = client.provider.revocation is Revocation.TOKEN
    if not is_line_only and told.id is None:
        return None
    return Unneeded(
        client=client.name,
        refresh_token=grant.refresh_token,
        access_token=grant.access_token,
        captured=grant.captured,
        is_only_of=None if is_line_only else told.id,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GivingBack:
    """Gives tokens back."""

    registry: Registry
    accounts: SharedAccounts
    token_tools: TokenTools

    async def give_back(self, unneeded: Unneeded) -> bool:
        """Revoke tokens at their provider, and tell whether it took them. Raises nothing expected.

        That it did not is no failure: they lie unused there until they end by themselves.
        """
        client = self.registry.clients.get(unneeded.client)
        if client is None:
            return False
        if unneeded.is_only_of is not None and await self._is_needed(client, unneeded.is_only_of):
            return False
        return await self.token_tools.revoke(
            client, unneeded.refresh_token, access_token=unneeded.access_token, captured=unneeded.captured
        )

    async def _is_needed(self, client: Client, account: str) -> bool:
        """Tell whether a grant of the same registration is for an account, or may be."""
        same = [
            other.name
            for other in self.registry.clients.values()
            if (other.provider.name, other.client_id) == (client.provider.name, client.client_id)
        ]
        try:
            return await self.accounts.is_held(same, account)
        except AWAY:
            return True
