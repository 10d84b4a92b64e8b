"""What a link leads to: the grants that its mail was about, and whether each still waits for its owner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.domain.grant import GrantState


class Standing(Enum):
    """How a grant stands to the link that came with a mail about it."""

    OPEN = auto()  #: its owner may authorize again
    USED = auto()  #: an authorization was begun with this very link
    HEALTHY = auto()  #: nothing to do: it is alive
    OUTDATED = auto()  #: it has died again since; a newer mail is about that
    ENDED = auto()  #: revoked, paused or gone: nobody waits for it


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkedGrant:
    """A grant that a link is about."""

    grant_id: UUID
    client: str
    subject: str
    account: str | None
    standing: Standing
    ends_at: datetime | None  #: of a grant that is alive: when its consent ends
    used_at: datetime | None


# A link about a consent's end stays good when the grant has died before that: the owner is needed all the more.
_FIND: Final = text("""
    SELECT m.grant_id, m.client, m.subject, max(m.death) AS death, bool_or(m.death > m.created_at) AS ends,
           min(m.created_at) AS created_at, max(m.link_used_at) AS used_at,
           g.state, g.state_since, g.consented_at, g.created_at AS began_at, g.account
      FROM reconsent_mails AS m LEFT JOIN grants AS g ON g.id = m.grant_id
     WHERE m.message_id = :message_id
     GROUP BY m.grant_id, m.client, m.subject, g.id
     ORDER BY m.client, m.subject
""")
_USE: Final = text("""
    UPDATE reconsent_mails SET link_used_at = now()
     WHERE message_id = :message_id AND grant_id = :grant_id AND link_used_at IS NULL
    RETURNING id
""")
_RELEASE: Final = text("""
    UPDATE reconsent_mails SET link_used_at = NULL WHERE message_id = :message_id AND grant_id = :grant_id
""")


class MailLinks:
    """Finds what links are about, and uses each once."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def find(self, message_id: UUID) -> Sequence[LinkedGrant]:
        """Return the grants of a mail; none where there is no such mail any more."""
        async with self._engine.connect() as connection:
            return [_linked(row) for row in await connection.execute(_FIND, {"message_id": message_id})]

    async def use(self, message_id: UUID, grant_id: UUID) -> bool:
        """Use a link for one of its grants, once; tell whether it was not used before."""
        async with self._engine.begin() as connection:
            used = await connection.execute(_USE, {"message_id": message_id, "grant_id": grant_id})
            return used.first() is not None

    async def release(self, message_id: UUID, grant_id: UUID) -> None:
        """Take back a use that led nowhere, for the authorization could not be begun."""
        async with self._engine.begin() as connection:
            await connection.execute(_RELEASE, {"message_id": message_id, "grant_id": grant_id})


def _linked(row: Row[Any]) -> LinkedGrant:
    standing = _standing(row)
    return LinkedGrant(
        grant_id=row.grant_id,
        client=row.client,
        subject=row.subject,
        account=row.account,
        standing=standing,
        ends_at=row.death if row.ends and standing is Standing.OPEN else None,
        used_at=row.used_at,
    )


def _standing(row: Row[Any]) -> Standing:
    state = GrantState(row.state) if row.state is not None else None
    about_its_end = row.ends and (row.consented_at or row.began_at) < row.created_at
    if state is None or state in {GrantState.REVOKED, GrantState.PAUSED}:
        return Standing.ENDED
    is_dead = state is GrantState.RECONSENT_REQUIRED
    if not about_its_end and not (is_dead and row.state_since == row.death):
        return Standing.OUTDATED if is_dead else Standing.HEALTHY
    return Standing.USED if row.used_at is not None else Standing.OPEN
