"""Answers kept for the length of a reuse grace, so that the same pair can be given again.

Each is sealed under a key derived from the very token it answers: whoever reads the state file finds no usable token.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from worker.domain.secret import Secret
from worker.sandbox.token_answer import TokenAnswer
from worker.sandbox.token_meaning import token_hash

_KEY_BYTES: Final = 32  # AES-256
_PURPOSE: Final = b"sandbox-grace"  # BLAKE2's personalization, at most 16 bytes
_NONCE: Final = bytes(12)  # each key seals one answer only: a refresh token is consumed once


class GraceAnswers:
    """Keeps and returns answers; each write belongs to the caller's transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._run = connection.execute

    def keep(self, token: Secret, answer: TokenAnswer, *, now: float, until: float) -> None:
        """Keep the answer that consumed `token` until an epoch second."""
        content = json.dumps(
            {
                "access_token": answer.access_token.reveal(),
                "refresh_token": None if answer.refresh_token is None else answer.refresh_token.reveal(),
                "access_end": now + answer.expires_in,
                "scope": answer.scope,
            },
        )
        sealed = AESGCM(_key(token)).encrypt(_NONCE, content.encode(), None)
        self._run("INSERT INTO grace_answers VALUES (?, ?, ?)", (token_hash(token), until, sealed))

    def again(self, token: Secret, *, now: float) -> TokenAnswer:
        """Return the kept answer to `token`, with the seconds that its access token still has.

        Raises:
            LookupError: none is kept; ask `TokenFacts.answer_kept` first.
        """
        row = self._run("SELECT sealed FROM grace_answers WHERE token_hash = ?", (token_hash(token),)).fetchone()
        if row is None:
            message = "no answer is kept for this refresh token; only a token in its grace has one"
            raise LookupError(message)
        content = json.loads(AESGCM(_key(token)).decrypt(_NONCE, row[0], None))
        refresh_token = content["refresh_token"]
        return TokenAnswer(
            access_token=Secret(content["access_token"]),
            refresh_token=None if refresh_token is None else Secret(refresh_token),
            expires_in=max(0, int(content["access_end"] - now)),
            scope=content["scope"],
        )


def _key(token: Secret) -> bytes:
    return hashlib.blake2b(token.reveal().encode(), digest_size=_KEY_BYTES, person=_PURPOSE).digest()
