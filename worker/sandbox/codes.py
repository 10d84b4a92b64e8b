"""Authorization codes: single use, short lived, bound to client, redirect URI and PKCE challenge."""

from __future__ import annotations

import base64
import hashlib
import hmac
import sqlite3
from dataclasses import dataclass
from typing import Final

from worker.domain.secret import Secret
from worker.sandbox.refusal import Refusal, invalid_grant
from worker.sandbox.token_meaning import token_hash

CODE_LIFETIME_S: Final = 60.0  # RFC 6749 section 4.1.2 recommends at most ten minutes; a redirect takes seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeFacts:
    """What is recorded about a code. `family_id` is there once it was used; `expires_at` is in epoch seconds."""

    client_id: str
    redirect_uri: str
    account: str
    scope: str
    challenge: str | None
    expires_at: float
    family_id: int | None


class Codes:
    """Reads and writes codes; each write belongs to the caller's transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._run = connection.execute

    def add(self, code: Secret, facts: CodeFacts) -> None:
        """Record a code that is being issued."""
        self._run(
            "INSERT INTO codes (hash, client_id, redirect_uri, account, scope, challenge, expires_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                token_hash(code),
                facts.client_id,
                facts.redirect_uri,
                facts.account,
                facts.scope,
                facts.challenge,
                facts.expires_at,
            ),
        )

    def find(self, code: Secret) -> CodeFacts | None:
        """Return what is recorded about a code, or None."""
        row = self._run(
            "SELECT client_id, redirect_uri, account, scope, challenge, expires_at, family_id"
            " FROM codes WHERE hash = ?",
            (token_hash(code),),
        ).fetchone()
        if row is None:
            return None
        client_id, redirect_uri, account, scope, challenge, expires_at, family_id = row
        return CodeFacts(
            client_id=client_id,
            redirect_uri=redirect_uri,
            account=account,
            scope=scope,
            challenge=challenge,
            expires_at=expires_at,
            family_id=family_id,
        )

    def mark_used(self, code: Secret, *, family_id: int) -> None:
        """Record that a code has become a family."""
        self._run("UPDATE codes SET family_id = ? WHERE hash = ?", (family_id, token_hash(code)))


def pkce_challenge(verifier: str) -> str:
    """Return the S256 challenge of a code verifier (RFC 7636 section 4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def why_not_exchanged(
    facts: CodeFacts | None, *, client_id: str, redirect_uri: str, verifier: str | None, now: float
) -> Refusal | None:
    """Return why a code cannot be exchanged, or None when it can.

    A verifier without a challenge is refused too: the challenge may have been stripped on the way (RFC 9700
    section 4.8.2).
    """
    if facts is None or facts.client_id != client_id:
        return invalid_grant("the code is unknown")
    if facts.family_id is not None:
        return invalid_grant("the code was used before; the tokens issued for it are revoked")
    if now >= facts.expires_at:
        return invalid_grant("the code has expired")
    if redirect_uri != facts.redirect_uri:
        return invalid_grant("redirect_uri is not the one of the authorization request")
    if not _verifies(facts.challenge, verifier):
        return invalid_grant("code_verifier does not match the code_challenge")
    return None


def _verifies(challenge: str | None, verifier: str | None) -> bool:
    if challenge is None or verifier is None:
        return challenge is verifier
    return hmac.compare_digest(pkce_challenge(verifier).encode(), challenge.encode())
