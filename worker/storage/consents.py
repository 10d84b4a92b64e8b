"""What owners have consented to, stored as a new grant or into the one that their client and subject have.

It writes token columns, so it is guarded: a new row is inserted only where none is, and an existing one is replaced as
a whole, generation and lease included, so that no refresh still under way can overwrite it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum, auto
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from worker.domain.account import Account, AccountCheck, check_account
from worker.domain.adoption import ThereAlready
from worker.domain.errors import SealError
from worker.domain.grant import ROTATED_STATES, GrantState
from worker.domain.secret import Secret
from worker.storage.new_grants import NewGrant, insert_grants, sealed_columns
from worker.storage.sealing import ACCESS_TOKEN, REFRESH_TOKEN, KeyRing
from worker.storage.shared_accounts import tell_shared


class Arrival(Enum):
    """What became of a consent's tokens."""

    CREATED = auto()
    REVIVED = auto()  #: the same row lives on with the new tokens, for it had ended
    RENEWED = auto()  #: the same row has the new tokens, and was alive, or paused, before
    OUTDATED = auto()  #: a newer consent was stored first, and stays


@dataclass(frozen=True, slots=True, kw_only=True)
class FormerTokens:
    """The tokens that a consent has replaced."""

    refresh_token: Secret
    access_token: Secret | None
    captured: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredConsent:
    """A consent that is stored."""

    grant_id: UUID
    arrival: Arrival
    state: GrantState
    replaced: FormerTokens | None = None
    shared_with: int = 0  #: so many other grants of the client are kept alive for the same account
    is_repeated: bool = False  #: it was stored before, by the same arguments


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRefused:
    """A consent of which nothing was stored, for its account is not the grant's, or not known to be."""

    grant_id: UUID
    check: AccountCheck
    stored: tuple[Secret, ...] = ()  #: the refresh token that is in use, where it can be opened


_FIND: Final = text("""
    SELECT id, state, state_since, account, account_source, scopes, lost_scopes, captured, consented_at, refresh_token,
           access_token
      FROM grants WHERE client = :client AND subject = :subject FOR UPDATE
""")
# What an operator has paused stays paused, with the new tokens; everything else is alive again.
_REPLACE: Final = text("""
    WITH replaced AS (
        UPDATE grants AS g
           SET state = CASE state WHEN 'paused' THEN state ELSE 'active' END,
               state_reason = CASE state WHEN 'paused' THEN state_reason END,
               state_since = CASE WHEN state IN ('active', 'paused') THEN state_since ELSE now() END,
               generation = generation + 1, refresh_token = :refresh_token, access_token = :access_token,
               issued_at = :issued_at, access_expires_at = :access_expires_at,
               refresh_expires_at = :refresh_expires_at, rotate_at = CASE state WHEN 'paused' THEN NULL
                                                                     ELSE CAST(:rotate_at AS timestamptz) END,
               scopes = coalesce(CAST(:scopes AS text[]), scopes), lost_scopes = CAST(:lost_scopes AS text[]),
               captured = coalesce(CAST(:captured AS jsonb), captured), email = coalesce(:email, email),
               account = CASE WHEN :keeps_account THEN account ELSE :account END,
               account_source = CASE WHEN :keeps_account THEN account_source ELSE :account_source END,
               consented_at = :consented_at,
               lease_id = NULL, leased_until = NULL, leased_by = NULL, spend_started_at = NULL,
               strikes = 0, failures = 0, presentations = 0, doubt_since = NULL,
               last_error = NULL, last_error_code = NULL, last_error_status = NULL, last_error_at = NULL
         WHERE id = :id
        RETURNING id, client, subject, generation),
    told AS (
        INSERT INTO events (type, client, grant_id, subject, data)
        SELECT CAST(:event AS text), client, id, subject, jsonb_build_object('generation', generation) FROM replaced)
    INSERT INTO events (type, client, grant_id, subject, data)
    SELECT 'grant.scopes_narrowed', client, id, subject,
           jsonb_build_object('generation', generation, 'lost', CAST(:newly_lost AS text[]))
      FROM replaced WHERE cardinality(CAST(:newly_lost AS text[])) > 0
""")
_REFUSE: Final = text("""
    INSERT INTO events (type, client, grant_id, subject, data)
    SELECT 'grant.account_refused', client, id, subject,
           jsonb_build_object('generation', generation, 'reason', CAST(:reason AS text))
      FROM grants WHERE id = :id
""")
_ARRIVED_AS: Final = text("""
    SELECT type FROM events
     WHERE grant_id = :id AND type IN ('grant.created', 'grant.revived', 'grant.reconsented')
     ORDER BY id DESC LIMIT 1
""")
_ARRIVALS: Final[Mapping[str, Arrival]] = {
    "grant.created": Arrival.CREATED,
    "grant.revived": Arrival.REVIVED,
    "grant.reconsented": Arrival.RENEWED,
}
#: The states out of which a consent is no return to life.
_LIVING: Final = frozenset({*ROTATED_STATES, GrantState.PAUSED})


class Consents:
    """Stores what owners have consented to."""

    def __init__(self, engine: AsyncEngine, keys: KeyRing) -> None:
        self._engine = engine
        self._keys = keys

    async def store_consent(
        self, new_id: UUID, grant: NewGrant, consented_at: datetime
    ) -> StoredConsent | AccountRefused:
        """Store what an owner has consented to, as a new grant or into the one that its client and subject have.

        It may be repeated with the same arguments: a consent that is stored already is left as it is.

        Args:
            new_id: used where there is no grant yet.
            grant: the tokens and their instants.
            consented_at: when the tokens were asked for, on the database's clock; it tells one consent from another.

        """
        async with self._engine.begin() as connection:
            if await insert_grants(connection, self._keys, [(new_id, grant, consented_at)]):
                stored = StoredConsent(grant_id=new_id, arrival=Arrival.CREATED, state=GrantState.ACTIVE)
            else:
                where = {"client": grant.client, "subject": grant.subject}
                found = (await connection.execute(_FIND, where)).one()
                # A commit whose acknowledgement was lost went through, and a consent that was stored late may be the
                # older of two: what is newer must not be overwritten.
                if found.consented_at is not None and found.consented_at >= consented_at:
                    return await _stored_before(connection, found, consented_at)
                check = check_account(_account(found), grant.account)
                if check.is_refused:
                    await connection.execute(_REFUSE, {"id": found.id, "reason": check.value})
                    former = self._former_tokens(found)
                    in_use = (former.refresh_token,) if former is not None else ()
                    return AccountRefused(grant_id=found.id, check=check, stored=in_use)
                stored = await self._replace(connection, found, grant, consented_at)
            shared_with = await tell_shared(connection, stored.grant_id, grant.client, grant.account.id)
        return replace(stored, shared_with=shared_with)

    async def bring_back(
        self,
        connection: AsyncConnection,
        grant: NewGrant,
        consented_at: datetime,
        is_meant: Callable[[ThereAlready], bool],
    ) -> bool:
        """Let a grant live on with the tokens of a consent that was given elsewhere; tell whether it does.

        Args:
            connection: in a transaction.
            grant: the tokens, for a client and subject that have a grant.
            consented_at: when its owner consented.
            is_meant: decides by what is there, once nobody else can change it.

        """
        where = {"client": grant.client, "subject": grant.subject}
        found = (await connection.execute(_FIND, where)).one()
        there = ThereAlready(
            grant_id=found.id,
            state=GrantState(found.state),
            state_since=found.state_since,
            account=found.account,
        )
        if not is_meant(there):
            return False
        await self._replace(connection, found, grant, consented_at)
        return True

    async def _replace(
        self, connection: AsyncConnection, found: Row[Any], grant: NewGrant, consented_at: datetime
    ) -> StoredConsent:
        was = GrantState(found.state)
        arrival = Arrival.RENEWED if was in _LIVING else Arrival.REVIVED
        event = next(name for name, meant in _ARRIVALS.items() if meant is arrival)
        lost = _lost_scopes(grant, (*(found.lost_scopes or ()), *(found.scopes or ())))
        columns = sealed_columns(self._keys, found.id, grant, consented_at)
        del columns["client"], columns["subject"]
        columns |= {
            "captured": json.dumps(columns["captured"]) if columns["captured"] is not None else None,
            "event": event,
            # What ended on purpose may begin anew with an account that nobody tells.
            "keeps_account": grant.account.id is None and was is not GrantState.REVOKED,
            "lost_scopes": lost or None,
            "newly_lost": [scope for scope in lost if scope in (found.scopes or ())],
        }
        await connection.execute(_REPLACE, columns)
        return StoredConsent(
            grant_id=found.id,
            arrival=arrival,
            state=was if was is GrantState.PAUSED else GrantState.ACTIVE,
            replaced=self._former_tokens(found),
        )

    def _former_tokens(self, found: Row[Any]) -> FormerTokens | None:
        access_token = found.access_token
        try:
            return FormerTokens(
                refresh_token=self._keys.open(found.refresh_token, REFRESH_TOKEN, found.id),
                access_token=self._keys.open(access_token, ACCESS_TOKEN, found.id) if access_token else None,
                captured=found.captured or {},
            )
        except SealError:  # what cannot be opened cannot be given back, and is no reason to refuse the new tokens
            return None


async def _stored_before(connection: AsyncConnection, found: Row[Any], consented_at: datetime) -> StoredConsent:
    state = GrantState(found.state)
    if found.consented_at > consented_at:
        return StoredConsent(grant_id=found.id, arrival=Arrival.OUTDATED, state=state)
    told = (await connection.execute(_ARRIVED_AS, {"id": found.id})).scalar_one_or_none()
    arrival = _ARRIVALS.get(told or "", Arrival.RENEWED)
    return StoredConsent(grant_id=found.id, arrival=arrival, state=state, is_repeated=True)


def _account(found: Row[Any]) -> Account | None:
    # Who ended a grant on purpose may begin anew with another account.
    if found.account is None or found.state == GrantState.REVOKED.value:
        return None
    return Account(id=found.account, source=found.account_source)


def _lost_scopes(grant: NewGrant, held: tuple[str, ...]) -> list[str]:
    """Return the scopes that a grant had, that were asked for again and that its owner has not given again."""
    given = grant.scopes or grant.requested
    return [scope for scope in dict.fromkeys(held) if scope in grant.requested and scope not in given]
