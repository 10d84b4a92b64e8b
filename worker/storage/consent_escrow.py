"""The escrow of consents: what an owner has authorized while the database was away.

The code is spent by then, so what it brought exists nowhere else. It waits like a rotated token does, in a flushed file
and beside the broker's messages, sealed as a whole: an address and an account are nobody's business there.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from worker.domain.account import ToldAccount
from worker.domain.secret import Secret
from worker.storage.escrow_shelf import EscrowShelf
from worker.storage.new_grants import NewGrant
from worker.storage.sealing import Column, KeyRing, key_id_of

#: What the name of every entry ends with.
SUFFIX: Final = ".consent"
#: Under which the broker's server has them.
KEY: Final = "evergrant:escrow:consents"
_CONSENT: Final = Column("escrow", "consent")
_INSTANTS: Final = ("issued_at", "access_expires_at", "refresh_expires_at", "rotate_at")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptConsent:
    """A consent that waits: the arguments with which it is stored."""

    new_id: UUID
    grant: NewGrant
    consented_at: datetime


class ConsentEscrow:
    """Keeps consents that the database did not take.

    Args:
        shelf: where they wait.
        keys: seal them.

    """

    def __init__(self, shelf: EscrowShelf, keys: KeyRing) -> None:
        self._shelf = shelf
        self._keys = keys

    async def put(self, kept: KeptConsent) -> bool:
        """Keep a consent; tell whether a home has it."""
        sealed = self._keys.seal(Secret(json.dumps(_plain(kept))), _CONSENT, kept.new_id)
        return await self._shelf.put(_name(kept.new_id), sealed.hex())

    async def remove(self, new_id: UUID) -> None:
        """Forget a consent that is stored or refused."""
        await self._shelf.remove(_name(new_id))

    async def drain(self, store: Callable[[KeptConsent], Awaitable[None]]) -> int:
        """Store what waits; returns how many cannot be stored as they are, and wait on.

        Args:
            store: safe to repeat.

        """

        async def open_and_store(name: str, entry: str) -> None:
            new_id = UUID(name.removesuffix(SUFFIX))
            opened = self._keys.open(bytes.fromhex(entry), _CONSENT, new_id)
            await store(_kept(new_id, json.loads(opened.reveal())))

        return await self._shelf.drain(open_and_store)

    async def depth(self) -> int:
        """Return how many consents wait."""
        return await self._shelf.depth()

    async def close(self) -> None:
        """Close the homes' connections."""
        await self._shelf.close()


def reseal_consent(name: str, entry: str, keys: KeyRing) -> str:
    """Return an entry sealed under the key that seals now; whatever is wrong with it is raised."""
    sealed = bytes.fromhex(entry)
    if key_id_of(sealed) == keys.sealing_id:
        return entry
    return keys.reseal(sealed, _CONSENT, UUID(name.removesuffix(SUFFIX))).hex()


def key_ids(entry: str) -> list[str]:
    """Return the id of the key that an entry is sealed under; whatever is wrong with it is raised."""
    return [key_id_of(bytes.fromhex(entry))]


def _name(new_id: UUID) -> str:
    return f"{new_id}{SUFFIX}"


def _plain(kept: KeptConsent) -> dict[str, object]:
    grant = kept.grant
    access_token = grant.access_token
    return {
        "client": grant.client,
        "subject": grant.subject,
        "refresh_token": grant.refresh_token.reveal(),
        "access_token": access_token.reveal() if access_token is not None else None,
        **{name: _written(getattr(grant, name)) for name in _INSTANTS},
        "scopes": grant.scopes,
        "email": grant.email,
        "account": {"source": grant.account.source, "id": grant.account.id},
        "captured": dict(grant.captured),
        "requested": grant.requested,
        "consented_at": _written(kept.consented_at),
    }


def _kept(new_id: UUID, plain: Mapping[str, Any]) -> KeptConsent:
    fields = dict(plain)
    consented_at = datetime.fromisoformat(fields.pop("consented_at"))
    access_token, scopes = fields.pop("access_token"), fields.pop("scopes")
    grant = NewGrant(
        refresh_token=Secret(fields.pop("refresh_token")),
        access_token=Secret(access_token) if access_token is not None else None,
        scopes=tuple(scopes) if scopes is not None else None,
        account=ToldAccount(**fields.pop("account")),
        requested=tuple(fields.pop("requested")),
        **{name: _read(fields.pop(name)) for name in _INSTANTS},
        **fields,
    )
    return KeptConsent(new_id=new_id, grant=grant, consented_at=consented_at)


def _written(instant: datetime | None) -> str | None:
    return instant.isoformat() if instant is not None else None


def _read(text: str | None) -> Any:  # noqa: ANN401 -- which of the instants may be missing, the entry's writer knew
    return datetime.fromisoformat(text) if text is not None else None
