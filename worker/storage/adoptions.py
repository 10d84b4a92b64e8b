"""Grants that are adopted, one or a thousand in a transaction. What is there already stays.

Every refresh token that a grant was adopted with leaves its fingerprint in `adopted_tokens`. Tokens that come later, by
rotation or consent, never leave this database; so whoever offers one that is known offers one that is spent, or the
same grant under another name. It is known for as long as the ring has the key that made its fingerprint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from worker.domain.adoption import ThereAlready, Verdict, judge
from worker.domain.grant import GrantState
from worker.storage.consents import Consents
from worker.storage.new_grants import NewGrant, insert_grants
from worker.storage.sealing import KeyRing

#: Adoptions are stored one transaction at a time, so that two of them cannot take the same token. Spells "EVGA".
_LOCK_KEY: Final = 0x45564741

#: A token's fingerprint under each key of the ring, the sealing one first.
Fingerprints = tuple[str, ...]
_TAKEN: Final = frozenset({Verdict.CREATE, Verdict.REPLACE})
_LOCK: Final = text("SELECT pg_advisory_xact_lock(:key, 0)")
_FIND: Final = text("""
    SELECT g.client, g.subject, g.id, g.state, g.state_since, g.account
      FROM json_to_recordset(CAST(:offered AS json)) AS offered (client text, subject text)
      JOIN grants AS g ON g.client = offered.client AND g.subject = offered.subject
""")
# A grant that is gone may have left its fingerprint, until it is pruned: its owner may begin anew.
_OWNERS: Final = text("""
    SELECT t.fingerprint, t.grant_id FROM adopted_tokens AS t JOIN grants AS g ON g.id = t.grant_id
     WHERE t.fingerprint IN (SELECT json_array_elements_text(CAST(:fingerprints AS json)))
""")
_MARK: Final = text("""
    INSERT INTO adopted_tokens (fingerprint, grant_id)
    SELECT fingerprint, grant_id
      FROM json_to_recordset(CAST(:taken AS json)) AS taken (fingerprint text, grant_id uuid)
    ON CONFLICT DO NOTHING
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedGrant:
    """A grant to be adopted.

    Attributes:
        grant_id: its id if it is new.
        grant: its tokens and their instants.
        consented_at: when its owner consented, as far as that is known.
        is_shareable: whether it may share its refresh token with other grants.

    """

    grant_id: UUID
    grant: NewGrant
    consented_at: datetime | None
    is_shareable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """What became of an offered grant; `grant_id` is the grant that it is now, or the one that stands in its way."""

    verdict: Verdict
    grant_id: UUID


class Adoptions:
    """Stores grants that are adopted.

    Args:
        engine: the process's connections.
        keys: seals tokens and makes their fingerprints.
        consents: writes over a dead grant.

    """

    def __init__(self, engine: AsyncEngine, keys: KeyRing, consents: Consents) -> None:
        self._engine = engine
        self._keys = keys
        self._consents = consents

    async def adopt(
        self, offered: Sequence[OfferedGrant], *, replace: bool = False, dry_run: bool = False
    ) -> list[Adopted]:
        """Take what may be taken, in one transaction, and say what became of each. It may be repeated.

        Args:
            offered: the grants.
            replace: whether a dead grant lives on with tokens of a later consent.
            dry_run: only say what would become of them.

        """
        marks = [self._keys.fingerprints(one.grant.refresh_token) for one in offered]
        async with self._engine.begin() as connection:
            if not dry_run:
                await connection.execute(_LOCK, {"key": _LOCK_KEY})
            there = await _there(connection, offered)
            owners = await _owners(connection, marks)
            judged = [_judged(*pair, there, owners, replace=replace) for pair in zip(offered, marks, strict=True)]
            return judged if dry_run else await self._stored(connection, offered, marks, judged)

    async def _stored(
        self,
        connection: AsyncConnection,
        offered: Sequence[OfferedGrant],
        marks: Sequence[Fingerprints],
        judged: Sequence[Adopted],
    ) -> list[Adopted]:
        pairs = list(zip(offered, judged, strict=True))
        new = [(one.grant_id, one.grant, one.consented_at) for one, what in pairs if what.verdict is Verdict.CREATE]
        created = await insert_grants(connection, self._keys, new) if new else set[UUID]()
        stored = [
            what if one.grant_id in created else await self._outcome(connection, one, what) for one, what in pairs
        ]
        taken = [
            {"fingerprint": fingerprints[0], "grant_id": str(what.grant_id)}
            for fingerprints, what in zip(marks, stored, strict=True)
            if what.verdict in _TAKEN
        ]
        if taken:
            await connection.execute(_MARK, {"taken": json.dumps(taken)})
        return stored

    async def _outcome(self, connection: AsyncConnection, one: OfferedGrant, what: Adopted) -> Adopted:
        """Return what became of a grant that was not inserted."""
        match what.verdict:
            case Verdict.CREATE:  # its owner has consented since we looked
                found = (await _there(connection, [one]))[one.grant.client, one.grant.subject]
                return Adopted(verdict=Verdict.OTHER_TOKEN, grant_id=found.grant_id)
            case Verdict.REPLACE:
                return await self._replaced(connection, one, what)
            case Verdict.SAME if what.grant_id == one.grant_id:
                # The acknowledgement of a commit was lost, and this is its repetition.
                return Adopted(verdict=Verdict.CREATE, grant_id=what.grant_id)
            case _:
                return what

    async def _replaced(self, connection: AsyncConnection, one: OfferedGrant, what: Adopted) -> Adopted:
        assert one.consented_at is not None
        verdict = what.verdict

        def is_meant(there: ThereAlready) -> bool:
            nonlocal verdict
            verdict = _verdict(one, there, frozenset(), replace=True)
            return verdict is Verdict.REPLACE

        await self._consents.bring_back(connection, one.grant, one.consented_at, is_meant)
        return Adopted(verdict=verdict, grant_id=what.grant_id)


def _judged(
    one: OfferedGrant,
    fingerprints: Fingerprints,
    there: Mapping[tuple[str, str], ThereAlready],
    owners: dict[str, set[UUID]],
    *,
    replace: bool,
) -> Adopted:
    found = there.get((one.grant.client, one.grant.subject))
    adopted_as = frozenset[UUID]().union(*(owners.get(fingerprint, ()) for fingerprint in fingerprints))
    verdict = _verdict(one, found, adopted_as, replace=replace)
    grant_id = min(adopted_as) if verdict is Verdict.TAKEN else found.grant_id if found is not None else one.grant_id
    if verdict in _TAKEN:
        # The next one in this very transaction may bring the same token.
        owners.setdefault(fingerprints[0], set()).add(grant_id)
    return Adopted(verdict=verdict, grant_id=grant_id)


def _verdict(one: OfferedGrant, there: ThereAlready | None, adopted_as: frozenset[UUID], *, replace: bool) -> Verdict:
    return judge(
        there=there,
        adopted_as=adopted_as,
        is_shareable=one.is_shareable,
        consented_at=one.consented_at,
        account=one.grant.account.id,
        replace=replace,
    )


async def _there(connection: AsyncConnection, offered: Sequence[OfferedGrant]) -> dict[tuple[str, str], ThereAlready]:
    wanted = [{"client": one.grant.client, "subject": one.grant.subject} for one in offered]
    return {
        (row.client, row.subject): ThereAlready(
            grant_id=row.id, state=GrantState(row.state), state_since=row.state_since, account=row.account
        )
        for row in await connection.execute(_FIND, {"offered": json.dumps(wanted)})
    }


async def _owners(connection: AsyncConnection, marks: Sequence[Fingerprints]) -> dict[str, set[UUID]]:
    wanted = [fingerprint for fingerprints in marks for fingerprint in fingerprints]
    owners: dict[str, set[UUID]] = {}
    for row in await connection.execute(_OWNERS, {"fingerprints": json.dumps(wanted)}):
        owners.setdefault(row.fingerprint, set()).add(row.grant_id)
    return owners
