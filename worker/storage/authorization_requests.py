"""Consents under way: kept by the state's hash, used once, for a while."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.domain.secret import Secret
from worker.storage.sealing import CODE_VERIFIER, KeyRing


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a consent is asked for."""

    client: str
    subject: str
    email: str | None = None
    return_to: str | None = None  #: where the owner goes on to


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingConsent:
    """What the callback needs of the request that it answers."""

    asked: Asked
    code_verifier: Secret | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedBefore:
    """The state was used by this very browser: it came back, or came twice at once."""

    asked: Asked


@dataclass(frozen=True, slots=True, kw_only=True)
class TookTooLong:
    """The state has expired; what was asked is told to the browser that asked."""

    asked: Asked | None


class StateRefused(Enum):
    """Why a callback's state is not accepted, where nothing of the request may be told."""

    UNKNOWN = auto()  #: never made here, or long gone
    UNMARKED = auto()  #: the browser brings no mark: it keeps no cookies, or another one was sent off
    FOREIGN = auto()  #: made for another browser: somebody may be passing on a link (RFC 6749 section 10.12)


Found = PendingConsent | UsedBefore | TookTooLong | StateRefused


_ADD: Final = text("""
    INSERT INTO authorization_requests
           (state_hash, id, client, subject, email, return_to, browser_hash, code_verifier, expires_at)
    VALUES (:state_hash, :id, :client, :subject, :email, :return_to, :browser_hash, :code_verifier, now() + :lifetime)
""")
_FIND: Final = text("""
    SELECT id, client, subject, email, return_to, state_hash, browser_hash, code_verifier,
           used_at IS NOT NULL AS used, expires_at <= now() AS expired
      FROM authorization_requests WHERE state_hash = :state_hash
""")
_USE: Final = text("""
    UPDATE authorization_requests SET used_at = now()
     WHERE state_hash = :state_hash AND used_at IS NULL AND expires_at > now()
    RETURNING id
""")
_END: Final = text("UPDATE authorization_requests SET ended = :ended WHERE state_hash = :state_hash")
_ENDED: Final = text("SELECT ended FROM authorization_requests WHERE state_hash = :state_hash")


class AuthorizationRequests:
    """Adds a consent under way and uses it once."""

    def __init__(self, engine: AsyncEngine, keys: KeyRing) -> None:
        self._engine = engine
        self._keys = keys

    async def add(
        self, request_id: UUID, *, state: Secret, browser: Secret, consent: PendingConsent, lifetime: timedelta
    ) -> None:
        """Remember a consent that is about to be asked for; only hashes of state and browser are kept."""
        verifier = consent.code_verifier
        async with self._engine.begin() as connection:
            await connection.execute(
                _ADD,
                {
                    "state_hash": _hash(state),
                    "id": request_id,
                    "client": consent.asked.client,
                    "subject": consent.asked.subject,
                    "email": consent.asked.email,
                    "return_to": consent.asked.return_to,
                    "browser_hash": _hash(browser),
                    "code_verifier": self._keys.seal(verifier, CODE_VERIFIER, request_id) if verifier else None,
                    "lifetime": lifetime,
                },
            )

    async def use(self, *, state: Secret, browser: Secret | None) -> Found:
        """Take the consent that a state belongs to, once; a browser other than the one it was made for uses nothing."""
        state_hash = _hash(state)
        async with self._engine.begin() as connection:
            found = (await connection.execute(_FIND, {"state_hash": state_hash})).one_or_none()
            # The look-up already was by hash; comparing once more in constant time leaves nothing to the index.
            if found is None or not hmac.compare_digest(found.state_hash, state_hash):
                return StateRefused.UNKNOWN
            asked = Asked(client=found.client, subject=found.subject, email=found.email, return_to=found.return_to)
            is_ours = browser is not None and hmac.compare_digest(found.browser_hash, _hash(browser))
            if found.expired and not found.used:
                return TookTooLong(asked=asked if is_ours else None)
            if not is_ours:
                return StateRefused.UNMARKED if browser is None else StateRefused.FOREIGN
            if found.used or (await connection.execute(_USE, {"state_hash": state_hash})).first() is None:
                return UsedBefore(asked=asked)
        verifier = self._keys.open(found.code_verifier, CODE_VERIFIER, found.id) if found.code_verifier else None
        return PendingConsent(asked=asked, code_verifier=verifier)

    async def end(self, state: Secret, ended: str) -> None:
        """Note what came of the consent that a state belongs to."""
        async with self._engine.begin() as connection:
            await connection.execute(_END, {"state_hash": _hash(state), "ended": ended})

    async def ended(self, state: Secret) -> str | None:
        """Return what came of the consent that a state belongs to; None while that is not known."""
        async with self._engine.connect() as connection:
            return (await connection.execute(_ENDED, {"state_hash": _hash(state)})).scalar_one_or_none()


def _hash(value: Secret) -> bytes:
    return hashlib.sha256(value.reveal().encode()).digest()
