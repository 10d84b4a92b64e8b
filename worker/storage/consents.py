"""Grants that arrive from outside the rotation: adopted with tokens from elsewhere, or consented to by their owner.

Both write token columns, so both are guarded: a new row is inserted only where none is, and an existing one is replaced
as a whole, generation and lease included, so that no refresh still under way can overwrite it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from worker.domain.secret import Secret
from worker.storage.sealing import ACCESS_TOKEN, REFRESH_TOKEN, KeyRing


@dataclass(frozen=True, slots=True, kw_only=True)
class NewGrant:
    """Tokens and their instants, to become a grant. Instants are the database's."""

    client: str
    subject: str
    refresh_token: Secret
    access_token: Secret | None
    issued_at: datetime | None
    access_expires_at: datetime | None
    refresh_expires_at: datetime | None
    rotate_at: datetime
    scopes: tuple[str, ...] | None
    email: str | None
    account: str | None = None
    captured: Mapping[str, str] = field(default_factory=dict)  #: what the provider's facts say to keep


class Arrival(Enum):
    """What became of a new grant."""

    CREATED = auto()
    REVIVED = auto()  #: the same row lives on with the new tokens
    ALREADY_THERE = auto()  #: adopting never replaces a grant


_INSERT: Final = text("""
    WITH added AS (
        INSERT INTO grants (id, client, subject, state, refresh_token, access_token, issued_at, access_expires_at,
                            refresh_expires_at, rotate_at, scopes, email, account, captured, consented_at)
        VALUES (:id, :client, :subject, 'active', :refresh_token, :access_token, :issued_at, :access_expires_at,
                :refresh_expires_at, :rotate_at, CAST(:scopes AS text[]), :email, :account,
                CAST(:captured AS jsonb), :consented_at)
        ON CONFLICT (client, subject) DO NOTHING
        RETURNING id, client, subject)
    INSERT INTO events (type, client, grant_id, subject)
    SELECT 'grant.created', client, id, subject FROM added
    RETURNING grant_id
""")
_FIND: Final = text("SELECT id, consented_at FROM grants WHERE client = :client AND subject = :subject FOR UPDATE")
_REVIVE: Final = text("""
    WITH revived AS (
        UPDATE grants AS g
           SET state = 'active', state_reason = NULL,
               state_since = CASE WHEN state = 'active' THEN state_since ELSE now() END,
               generation = generation + 1, refresh_token = :refresh_token, access_token = :access_token,
               issued_at = :issued_at, access_expires_at = :access_expires_at,
               refresh_expires_at = :refresh_expires_at, rotate_at = :rotate_at,
               scopes = coalesce(CAST(:scopes AS text[]), scopes), lost_scopes = NULL,
               captured = coalesce(CAST(:captured AS jsonb), captured), email = coalesce(:email, email),
               account = coalesce(:account, account), consented_at = :consented_at,
               lease_id = NULL, leased_until = NULL, spend_started_at = NULL,
               strikes = 0, failures = 0, presentations = 0, doubt_since = NULL,
               last_error = NULL, last_error_code = NULL, last_error_status = NULL, last_error_at = NULL
         WHERE id = :id
        RETURNING id, client, subject, generation)
    INSERT INTO events (type, client, grant_id, subject, data)
    SELECT 'grant.revived', client, id, subject, jsonb_build_object('generation', generation) FROM revived
    RETURNING grant_id
""")


class Consents:
    """Stores grants that arrive with their tokens."""

    def __init__(self, engine: AsyncEngine, keys: KeyRing) -> None:
        self._engine = engine
        self._keys = keys

    async def adopt(self, grant_id: UUID, grant: NewGrant) -> Arrival:
        """Insert a grant under this id, unless its client and subject have one already."""
        async with self._engine.begin() as connection:
            added = await self._insert(connection, grant_id, grant, consented_at=None)
        return Arrival.CREATED if added else Arrival.ALREADY_THERE

    async def store_consent(self, new_id: UUID, grant: NewGrant, consented_at: datetime) -> tuple[UUID, Arrival]:
        """Store what an owner has consented to, as a new grant or into the one that its client and subject have.

        It may be repeated with the same arguments: a consent that is stored already is left as it is.

        Args:
            new_id: used where there is no grant yet.
            grant: the tokens and their instants.
            consented_at: when the tokens were asked for, on the database's clock; it tells one consent from another.

        """
        async with self._engine.begin() as connection:
            if await self._insert(connection, new_id, grant, consented_at=consented_at):
                return new_id, Arrival.CREATED
            where = {"client": grant.client, "subject": grant.subject}
            found = (await connection.execute(_FIND, where)).one()
            # A commit whose acknowledgement was lost went through, and a consent that was stored late may be the older
            # of two: what is newer must not be overwritten.
            if found.consented_at is None or found.consented_at < consented_at:
                await connection.execute(_REVIVE, self._columns(found.id, grant, consented_at))
            return found.id, Arrival.CREATED if found.id == new_id else Arrival.REVIVED

    async def _insert(
        self, connection: AsyncConnection, grant_id: UUID, grant: NewGrant, consented_at: datetime | None
    ) -> bool:
        columns = {**self._columns(grant_id, grant, consented_at), "client": grant.client, "subject": grant.subject}
        return (await connection.execute(_INSERT, columns)).first() is not None

    def _columns(self, grant_id: UUID, grant: NewGrant, consented_at: datetime | None) -> dict[str, Any]:
        access_token = grant.access_token
        return {
            "id": grant_id,
            "refresh_token": self._keys.seal(grant.refresh_token, REFRESH_TOKEN, grant_id),
            "access_token": self._keys.seal(access_token, ACCESS_TOKEN, grant_id) if access_token else None,
            "issued_at": grant.issued_at,
            "access_expires_at": grant.access_expires_at,
            "refresh_expires_at": grant.refresh_expires_at,
            "rotate_at": grant.rotate_at,
            "scopes": list(grant.scopes) if grant.scopes is not None else None,
            "email": grant.email,
            "account": grant.account,
            "captured": json.dumps(dict(grant.captured)) if grant.captured else None,
            "consented_at": consented_at,
        }
