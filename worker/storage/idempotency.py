"""Idempotency keys: a request that is sent again with its key gets the first one's answer and does nothing.

As the IETF's draft-ietf-httpapi-idempotency-key-header says. A key belongs to its caller, is good for one request, and
is kept for a day. Keys and requests are kept as hashes, answers sealed.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.domain.secret import Secret
from worker.storage.sealing import ANSWER, KeyRing

#: How long an answer is kept: longer than anybody repeats a request.
KEPT: Final = timedelta(hours=24)
#: A request that has not been answered after so long never will be: its process has died. It may be made again.
GIVEN_UP_AFTER: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """This request is the first with its key: it is to be done, and its answer kept under this id."""

    id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderWay:
    """The first request with this key has not been answered yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnotherRequest:
    """The key was used for a request with another method, path or body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the first request was answered. The body may name owners, so it is sealed where it is kept."""

    status: int
    media_type: str | None
    location: str | None
    body: str


Beginning = Begun | UnderWay | AnotherRequest | Answer

_BEGIN: Final = text("""
    INSERT INTO idempotent_requests AS r (id, caller_id, key_hash, request_hash)
    VALUES (:id, :caller_id, :key_hash, :request_hash)
    ON CONFLICT (caller_id, key_hash) DO UPDATE
       SET id = excluded.id, request_hash = excluded.request_hash, began_at = now(), status = NULL, answer = NULL
     WHERE r.began_at < now() - CAST(:kept AS interval)
        OR (r.status IS NULL AND r.request_hash = excluded.request_hash
            AND r.began_at < now() - CAST(:given_up_after AS interval))
    RETURNING id
""")
_FIND: Final = text("""
    SELECT id, request_hash, status, answer FROM idempotent_requests
     WHERE caller_id = :caller_id AND key_hash = :key_hash
""")
_FINISH: Final = text("""
    UPDATE idempotent_requests SET status = :status, answer = :answer WHERE id = :id AND status IS NULL
""")
_FORGET: Final = text("DELETE FROM idempotent_requests WHERE id = :id AND status IS NULL")


class IdempotentRequests:
    """Remembers what was asked with a key, and what was answered. `new_id` is chance."""

    def __init__(self, engine: AsyncEngine, keys: KeyRing, new_id: Callable[[], UUID]) -> None:
        self._engine = engine
        self._keys = keys
        self._new_id = new_id

    async def begin(self, caller_id: UUID, key: str, *, method: str, path: str, body: bytes) -> Beginning:
        """Take a key for a request, or return what became of the first request with it."""
        which = {"caller_id": caller_id, "key_hash": hashlib.sha256(key.encode()).digest()}
        # Under the key, which is not kept: a token in the body cannot be guessed and compared.
        request_hash = hmac.digest(key.encode(), b"\0".join((method.encode(), path.encode(), body)), "sha256")
        columns = {"id": self._new_id(), **which, "request_hash": request_hash}
        limits = {"kept": KEPT, "given_up_after": GIVEN_UP_AFTER}
        async with self._engine.begin() as connection:
            begun = (await connection.execute(_BEGIN, {**columns, **limits})).scalar_one_or_none()
            if begun is not None:
                return Begun(id=begun)
            row = (await connection.execute(_FIND, which)).one_or_none()
        if row is None:
            return UnderWay()  # it was forgotten between the two statements; the next try is the first
        if not hmac.compare_digest(row.request_hash, request_hash):
            return AnotherRequest()
        if row.status is None:
            return UnderWay()
        opened = json.loads(self._keys.open(row.answer, ANSWER, row.id).reveal())
        return Answer(status=row.status, **opened)

    async def finish(self, request_id: UUID, answer: Answer) -> None:
        """Keep the answer of a request that was begun."""
        members = {"media_type": answer.media_type, "location": answer.location, "body": answer.body}
        sealed = self._keys.seal(Secret(json.dumps(members)), ANSWER, request_id)
        async with self._engine.begin() as connection:
            await connection.execute(_FINISH, {"id": request_id, "status": answer.status, "answer": sealed})

    async def forget(self, request_id: UUID) -> None:
        """Give the key of a request back that came to nothing: it may be made again."""
        async with self._engine.begin() as connection:
            await connection.execute(_FORGET, {"id": request_id})
