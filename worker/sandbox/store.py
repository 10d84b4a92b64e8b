"""The sandbox's state in SQLite: its schema, its connection and its transactions."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_SCHEMA_VERSION: Final = 1
_SIGNING_KEY_BYTES: Final = 32  # as long as HS256's digest, RFC 7518 section 3.2
_SCHEMA: Final = """
CREATE TABLE signing_key (key BLOB NOT NULL);
CREATE TABLE clients (
    client_id TEXT PRIMARY KEY,
    profile TEXT NOT NULL,
    name TEXT NOT NULL,
    secret_hashes TEXT NOT NULL,
    redirect_uris TEXT NOT NULL,
    behaviour TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE families (
    id INTEGER PRIMARY KEY,
    client_id TEXT NOT NULL,
    account TEXT NOT NULL,
    scope TEXT NOT NULL,
    created_at REAL NOT NULL,
    absolute_end REAL,
    expires_at REAL,
    revoked_at REAL,
    revoked_because TEXT,
    current_token BLOB NOT NULL,
    rotations INTEGER NOT NULL DEFAULT 0,
    pruned INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX families_of_client ON families (client_id, id);
CREATE INDEX families_of_account ON families (client_id, account);
CREATE INDEX families_revoked ON families (revoked_at) WHERE pruned = 0 AND revoked_at IS NOT NULL;
CREATE INDEX families_expiring ON families (expires_at) WHERE pruned = 0 AND expires_at IS NOT NULL;
CREATE TABLE refresh_tokens (
    hash BLOB PRIMARY KEY,
    family_id INTEGER NOT NULL,
    issued_at REAL NOT NULL,
    idle_end REAL,
    presented INTEGER NOT NULL DEFAULT 0,
    consumed_at REAL,
    delivery TEXT,
    successor BLOB
) WITHOUT ROWID;
CREATE INDEX refresh_tokens_of_family ON refresh_tokens (family_id);
CREATE TABLE grace_answers (
    token_hash BLOB PRIMARY KEY,
    kept_until REAL NOT NULL,
    sealed BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX grace_answers_kept_until ON grace_answers (kept_until);
CREATE TABLE codes (
    hash BLOB PRIMARY KEY,
    client_id TEXT NOT NULL,
    redirect_uri TEXT NOT NULL,
    account TEXT NOT NULL,
    scope TEXT NOT NULL,
    challenge TEXT,
    expires_at REAL NOT NULL,
    family_id INTEGER
) WITHOUT ROWID;
CREATE INDEX codes_expiring ON codes (expires_at);
CREATE TABLE revoked_access_tokens (
    jti TEXT PRIMARY KEY,
    expires_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE orders (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    remaining INTEGER,
    content TEXT NOT NULL
);
CREATE TABLE tallies (
    client_id TEXT NOT NULL,
    name TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (client_id, name)
) WITHOUT ROWID;
"""


class StateFileError(Exception):
    """The state file cannot be used: another sandbox has it open, or it is not one of this version's."""


class Store:
    """One SQLite connection: a file that outlives the process, or memory.

    Args:
        path: the state file, made when missing; None keeps the state in memory.

    Raises:
        StateFileError: the file is in use by another sandbox or is not a state file of this version.
    """

    def __init__(self, path: Path | None) -> None:
        try:
            # One connection: made by whoever opens the sandbox, used by its event loop's thread only.
            self.connection = sqlite3.connect(
                ":memory:" if path is None else path, isolation_level=None, check_same_thread=False
            )
        except sqlite3.OperationalError as error:
            message = f"state file {path}: {error}; name a file in a folder that can be written"
            raise StateFileError(message) from error
        try:
            self._prepare()
        except sqlite3.DatabaseError as error:
            self.connection.close()
            message = f"state file {path}: {error}; stop the other sandbox that uses it, or name another file"
            raise StateFileError(message) from error
        except StateFileError:
            self.connection.close()
            raise

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what the block did, or undo it when the block raises."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    def signing_key(self) -> bytes:
        """Return the key that signs this state's access tokens."""
        (key,) = self.connection.execute("SELECT key FROM signing_key").fetchone()
        return bytes(key)

    def close(self) -> None:
        """Close the connection; what was committed stays in the file."""
        self.connection.close()

    def _prepare(self) -> None:
        run = self.connection.execute
        run("PRAGMA busy_timeout = 1000")  # ms: a sandbox that is just stopping releases its file within it
        run("PRAGMA locking_mode = EXCLUSIVE")  # the orders and clients in memory allow one process per file
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = NORMAL")  # survives a killed process; a power cut may undo the last commits
        run("PRAGMA cache_size = -65536")  # KiB: token hashes are looked up at random, 100,000 families fit
        run("BEGIN IMMEDIATE")
        (version,) = run("PRAGMA user_version").fetchone()
        if version not in {0, _SCHEMA_VERSION}:
            message = f"the state file has version {version}, this sandbox knows {_SCHEMA_VERSION}; name another file"
            raise StateFileError(message)
        if version == 0:
            for statement in _SCHEMA.split(";\n"):
                run(statement)
            run("INSERT INTO signing_key VALUES (?)", (secrets.token_bytes(_SIGNING_KEY_BYTES),))
            run(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        # An answer that was in flight when the last process ended has not arrived.
        run("UPDATE refresh_tokens SET delivery = 'lost' WHERE delivery = 'in_flight'")
        run("COMMIT")
