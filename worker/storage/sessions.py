"""Sessions of people who have signed in: kept as hashes, found by the hash, ended by anybody who may."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from worker.domain.roles import Role

#: The last use is written at most this often: an open page asks every two seconds.
USE_NOTED_EVERY: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who has signed in: known by issuer and subject, shown by name."""

    issuer: str  #: of the OpenID provider, or "link"
    subject: str  #: its `sub`, or the link's id: many links are made for one name
    name: str
    role: Role
    client: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionView:
    """A session without anything that would let somebody use it."""

    id: UUID
    issuer: str
    subject: str
    name: str
    role: Role
    client: str | None
    address: str | None
    agent: str | None
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSession:
    """A session that begins."""

    id: UUID
    secret_hash: bytes
    address: str | None  #: of the machine that it came from
    agent: str | None  #: what the browser calls itself
    lifetime: timedelta


_ADD: Final = text("""
    INSERT INTO sessions (id, secret_hash, issuer, subject, name, role, client, address, agent, expires_at)
    VALUES (:id, :secret_hash, :issuer, :subject, :name, :role, :client, :address, :agent,
            now() + CAST(:lifetime AS interval))
""")
_OPEN: Final = "ended_at IS NULL AND expires_at > now() AND last_used_at > now() - CAST(:idle AS interval)"
_SHOWN: Final = "id, issuer, subject, name, role, client, address, agent, created_at, last_used_at, expires_at"
_FIND: Final = text(f"SELECT {_SHOWN} FROM sessions WHERE secret_hash = :secret_hash AND {_OPEN}")  # noqa: S608 -- constants
_LIST: Final = text(f"""
    SELECT {_SHOWN} FROM sessions
     WHERE {_OPEN} AND (CAST(:client AS text) IS NULL OR client = CAST(:client AS text))
     ORDER BY last_used_at DESC, id LIMIT :limit
""")  # noqa: S608 -- constants
_NOTE_USE: Final = text("""
    UPDATE sessions SET last_used_at = now() WHERE id = :id AND last_used_at < now() - CAST(:every AS interval)
""")
_END: Final = text("""
    UPDATE sessions SET ended_at = now()
     WHERE id = :id AND ended_at IS NULL AND (CAST(:client AS text) IS NULL OR client = CAST(:client AS text))
    RETURNING id
""")
_END_ALL: Final = text("""
    UPDATE sessions SET ended_at = now()
     WHERE issuer = :issuer AND subject = :subject AND ended_at IS NULL AND expires_at > now() RETURNING id
""")


async def add_session(connection: AsyncConnection, session: NewSession, person: Person) -> None:
    """Remember a session by the hash of its secret, in the connection's transaction."""
    columns = {
        "id": session.id,
        "secret_hash": session.secret_hash,
        "issuer": person.issuer,
        "subject": person.subject,
        "name": person.name,
        "role": person.role.value,
        "client": person.client,
        "address": session.address,
        "agent": session.agent,
        "lifetime": session.lifetime,
    }
    await connection.execute(_ADD, columns)


class SessionStore:
    """Adds sessions, finds them and ends them. `idle` is how long one lives without being used."""

    def __init__(self, engine: AsyncEngine, idle: timedelta) -> None:
        self._engine = engine
        self._idle = idle

    async def add(self, session: NewSession, person: Person) -> None:
        """Remember a session by the hash of its secret."""
        async with self._engine.begin() as connection:
            await add_session(connection, session, person)

    async def find(self, secret_hash: bytes) -> SessionView | None:
        """Return the session of a secret's hash; None where it is unknown, ended, too old or was too long unused."""
        async with self._engine.connect() as connection:
            row = (await connection.execute(_FIND, {"secret_hash": secret_hash, "idle": self._idle})).one_or_none()
        return SessionView(**{**row._mapping, "role": Role(row.role)}) if row is not None else None  # noqa: SLF001

    async def note_use(self, session_id: UUID) -> None:
        """Note that a session was used, unless that was noted a moment ago."""
        async with self._engine.begin() as connection:
            await connection.execute(_NOTE_USE, {"id": session_id, "every": USE_NOTED_EVERY})

    async def list(self, *, client: str | None, limit: int) -> Sequence[SessionView]:
        """Return the sessions that are open, those bound to a client alone where one is given."""
        wanted = {"idle": self._idle, "client": client, "limit": limit}
        async with self._engine.connect() as connection:
            rows = (await connection.execute(_LIST, wanted)).all()
        return [SessionView(**{**row._mapping, "role": Role(row.role)}) for row in rows]  # noqa: SLF001

    async def end(self, session_id: UUID, *, client: str | None = None) -> bool:
        """End a session, one bound to a client alone where one is given; tell whether there was such a one."""
        async with self._engine.begin() as connection:
            return (await connection.execute(_END, {"id": session_id, "client": client})).first() is not None

    async def end_all(self, issuer: str, subject: str) -> int:
        """End all sessions of a person and return how many there were."""
        async with self._engine.begin() as connection:
            return len((await connection.execute(_END_ALL, {"issuer": issuer, "subject": subject})).all())
