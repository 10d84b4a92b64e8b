"""Families in the store: one per grant, with every refresh token that was ever rotated into it."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from worker.sandbox.behaviour import Behaviour
from worker.sandbox.token_meaning import Delivery, TokenFacts, earliest, end_after

PREFIX_HEX_DIGITS: Final = 16  # of a token's SHA-256: tells tokens apart in a list without being usable as one


class FamilyStatus(StrEnum):
    """What has become of a family."""

    ALIVE = "alive"
    REVOKED = "revoked"
    EXPIRED = "expired"


class RevokedBecause(StrEnum):
    """What ended a family before its time."""

    REFRESH_TOKEN_REUSED = "refresh_token_reused"
    CODE_REUSED = "code_reused"
    CONSENT_REVOKED = "consent_revoked"
    REVOKED_BY_CLIENT = "revoked_by_client"


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One family as the control API lists it. `token_sha256_prefix` belongs to its newest refresh token."""

    family_id: int
    account: str
    scope: str
    status: FamilyStatus
    revoked_because: RevokedBecause | None
    rotations: int
    token_sha256_prefix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRecord:
    """How one refresh token has fared: how often it was presented, and what became of its consuming answer."""

    family_id: int
    presented: int
    consumed: bool
    delivery: Delivery | None


_STATUS: Final = """CASE WHEN revoked_at IS NOT NULL THEN 'revoked'
    WHEN expires_at <= :now THEN 'expired' ELSE 'alive' END"""


class Families:
    """Reads and writes families and their refresh tokens; each write belongs to the caller's transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._run = connection.execute

    def create(
        self, *, client_id: str, account: str, scope: str, behaviour: Behaviour, refresh_hash: bytes, now: float
    ) -> int:
        """Start a family with its first refresh token and return its id."""
        absolute_end = end_after(now, behaviour.absolute_lifetime)
        idle_end = end_after(now, behaviour.refresh_idle_timeout)
        family_id = self._run(
            "INSERT INTO families (client_id, account, scope, created_at, absolute_end, expires_at, current_token)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (client_id, account, scope, now, absolute_end, earliest(absolute_end, idle_end), refresh_hash),
        ).lastrowid
        assert family_id is not None
        self._add_token(refresh_hash, family_id=family_id, now=now, idle_end=idle_end)
        return family_id

    def find_token(self, refresh_hash: bytes) -> TokenFacts | None:
        """Return what is recorded about a refresh token, or None."""
        row = self._run(
            "SELECT t.family_id, f.client_id, f.account, f.scope, t.issued_at, t.idle_end, f.absolute_end,"
            " f.revoked_at, t.consumed_at, t.delivery, t.presented, s.consumed_at, g.kept_until"
            " FROM refresh_tokens t JOIN families f ON f.id = t.family_id"
            " LEFT JOIN refresh_tokens s ON s.hash = t.successor LEFT JOIN grace_answers g ON g.token_hash = t.hash"
            " WHERE t.hash = ?",
            (refresh_hash,),
        ).fetchone()
        if row is None:
            return None
        return TokenFacts(
            family_id=row[0],
            client_id=row[1],
            account=row[2],
            scope=row[3],
            issued_at=row[4],
            idle_end=row[5],
            family_end=row[6],
            revoked_at=row[7],
            consumed_at=row[8],
            delivery=None if row[9] is None else Delivery(row[9]),
            presented=row[10],
            successor_consumed=row[11] is not None,
            answer_kept=row[12] is not None,
        )

    def count_presentation(self, refresh_hash: bytes) -> None:
        """Count that a refresh token was presented at the token endpoint."""
        self._run("UPDATE refresh_tokens SET presented = presented + 1 WHERE hash = ?", (refresh_hash,))

    def rotate(
        self,
        refresh_hash: bytes,
        *,
        facts: TokenFacts,
        successor: bytes,
        delivery: Delivery,
        behaviour: Behaviour,
        now: float,
    ) -> None:
        """Consume a refresh token and put its successor in its place."""
        idle_end = end_after(now, behaviour.refresh_idle_timeout)
        self._run(
            "UPDATE refresh_tokens SET consumed_at = ?, delivery = ?, successor = ? WHERE hash = ?",
            (now, delivery, successor, refresh_hash),
        )
        self._add_token(successor, family_id=facts.family_id, now=now, idle_end=idle_end)
        self._run(
            "UPDATE families SET current_token = ?, expires_at = ?, rotations = rotations + 1 WHERE id = ?",
            (successor, earliest(facts.family_end, idle_end), facts.family_id),
        )

    def extend(self, refresh_hash: bytes, *, facts: TokenFacts, behaviour: Behaviour, now: float) -> None:
        """Begin the idle timeout of a refresh token anew: it was used and stays."""
        idle_end = end_after(now, behaviour.refresh_idle_timeout)
        self._run("UPDATE refresh_tokens SET idle_end = ? WHERE hash = ?", (idle_end, refresh_hash))
        self._run(
            "UPDATE families SET expires_at = ? WHERE id = ?", (earliest(facts.family_end, idle_end), facts.family_id)
        )

    def settle_delivery(self, refresh_hash: bytes, delivery: Delivery) -> None:
        """Record what became of a consuming answer; what was delivered once stays delivered."""
        self._run(
            "UPDATE refresh_tokens SET delivery = ?"
            " WHERE hash = ? AND consumed_at IS NOT NULL AND delivery <> 'delivered'",
            (delivery, refresh_hash),
        )

    def revoke(self, family_id: int, *, because: RevokedBecause, now: float) -> bool:
        """End a family and all its tokens; return whether it was there and not revoked yet."""
        changed = self._run(
            "UPDATE families SET revoked_at = ?, revoked_because = ? WHERE id = ? AND revoked_at IS NULL",
            (now, because, family_id),
        )
        return changed.rowcount == 1

    def revoke_account(self, client_id: str, account: str, *, because: RevokedBecause, now: float) -> int:
        """End every family that an account granted a client; return how many that were."""
        changed = self._run(
            "UPDATE families SET revoked_at = ?, revoked_because = ?"
            " WHERE client_id = ? AND account = ? AND revoked_at IS NULL",
            (now, because, client_id, account),
        )
        return changed.rowcount

    def exists(self, family_id: int) -> bool:
        """Return whether there is or was a family of that id."""
        return self._run("SELECT 1 FROM families WHERE id = ?", (family_id,)).fetchone() is not None

    def is_revoked(self, family_id: int) -> bool:
        """Return whether a family is revoked or was never there."""
        row = self._run("SELECT revoked_at FROM families WHERE id = ?", (family_id,)).fetchone()
        return row is None or row[0] is not None

    def listing(
        self, client_id: str, *, status: FamilyStatus | None, after: int, limit: int, now: float
    ) -> list[Family]:
        """Return up to `limit` families of a client whose ids follow `after`, in the order of their ids."""
        rows = self._run(
            f"SELECT id, account, scope, {_STATUS} AS status, revoked_because, rotations, current_token"  # noqa: S608
            " FROM families WHERE client_id = :client_id AND id > :after AND (:status IS NULL OR status = :status)"
            " ORDER BY id LIMIT :limit",
            {"client_id": client_id, "status": status, "after": after, "limit": limit, "now": now},
        )
        return [
            Family(
                family_id=family_id,
                account=account,
                scope=scope,
                status=FamilyStatus(family_status),
                revoked_because=None if because is None else RevokedBecause(because),
                rotations=rotations,
                token_sha256_prefix=current_token.hex()[:PREFIX_HEX_DIGITS],
            )
            for family_id, account, scope, family_status, because, rotations, current_token in rows
        ]

    def count_by_status(self, client_id: str | None, *, now: float) -> dict[FamilyStatus, int]:
        """Return how many families of one client, or of all, have each status."""
        rows = self._run(
            f"SELECT {_STATUS}, count(*) FROM families"  # noqa: S608 - the one constant above, no value
            " WHERE :client_id IS NULL OR client_id = :client_id GROUP BY 1",
            {"client_id": client_id, "now": now},
        )
        return dict.fromkeys(FamilyStatus, 0) | {FamilyStatus(status): count for status, count in rows}

    def token_record(self, refresh_hash: bytes) -> TokenRecord | None:
        """Return how a refresh token has fared, or None when it is not recorded."""
        facts = self.find_token(refresh_hash)
        if facts is None:
            return None
        return TokenRecord(
            family_id=facts.family_id,
            presented=facts.presented,
            consumed=facts.consumed_at is not None,
            delivery=facts.delivery,
        )

    def _add_token(self, refresh_hash: bytes, *, family_id: int, now: float, idle_end: float | None) -> None:
        self._run(
            "INSERT INTO refresh_tokens (hash, family_id, issued_at, idle_end) VALUES (?, ?, ?, ?)",
            (refresh_hash, family_id, now, idle_end),
        )
