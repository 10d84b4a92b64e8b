"""Links that sign somebody in once: kept as hashes, used by one guarded UPDATE."""

from __future__ import annotations

from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.domain.roles import Role
from worker.storage.sessions import NewSession, Person, add_session

#: What stands for an issuer in the session of somebody who came by a link.
BY_LINK: Final = "link"

_ADD: Final = text("""
    INSERT INTO sign_in_links (id, secret_hash, name, role, client, expires_at)
    VALUES (:id, :secret_hash, :name, :role, :client, now() + CAST(:lifetime AS interval))
""")
_USE: Final = text("""
    UPDATE sign_in_links SET used_at = now()
     WHERE secret_hash = :secret_hash AND used_at IS NULL AND expires_at > now()
    RETURNING id, name, role, client
""")


class SignInLinks:
    """Adds links and uses them."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def add(
        self, link_id: UUID, secret_hash: bytes, *, name: str, role: Role, client: str | None, lifetime: timedelta
    ) -> None:
        """Remember a link by the hash of its secret."""
        columns = {
            "id": link_id,
            "secret_hash": secret_hash,
            "name": name,
            "role": role.value,
            "client": client,
            "lifetime": lifetime,
        }
        async with self._engine.begin() as connection:
            await connection.execute(_ADD, columns)

    async def use(self, secret_hash: bytes, session: NewSession) -> Person | None:
        """Use a link up and begin a session, both or neither; return whose it is.

        None where the link is unknown, used or past its end, and then no session begins.
        """
        async with self._engine.begin() as connection:
            row = (await connection.execute(_USE, {"secret_hash": secret_hash})).one_or_none()
            if row is None:
                return None
            # By the link and not by the name, which is the service's user for whoever gives none.
            person = Person(issuer=BY_LINK, subject=str(row.id), name=row.name, role=Role(row.role), client=row.client)
            await add_session(connection, session, person)
        return person
