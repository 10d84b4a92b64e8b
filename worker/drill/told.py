"""Searches what a drill's processes have written, logs, metrics and configuration, for the secrets that it used."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

from worker.domain.secret import Secret
from worker.drill.secrecy import KnownSecrets

#: Files of a drill's folder that hold a password so that its server can read it; each is its owner's alone.
_KEEPS_A_SECRET: Final = frozenset({"control-token", "postgres/superuser-password", "valkey/valkey.conf"})
#: What a database keeps, and it keeps sealed tokens and hashes: nobody reads that, and it is large.
_KEPT: Final = ("postgres/data/", "valkey/data/", "sandbox.sqlite3")
#: How every access token of the sandbox begins: a JWT's header and payload (RFC 7519) in base64url.
_JWT_BEGINNINGS: Final = ("eyJhbGciOiJIUzI1", "eyJpc3MiOiJodHRw")
_HASHES: Final = {"a refresh token": "SELECT hash FROM refresh_tokens", "a code": "SELECT hash FROM codes"}


def secrets_told(folder: Path, secrets: Mapping[str, Secret], sandbox_state: Path) -> tuple[str, ...]:
    """Return where a secret stands, as file, line and kind; never the secret.

    Args:
        folder: the drill's own; everything in it is searched that is not there to hold a secret.
        secrets: those that the drill began with, by what they are.
        sandbox_state: a stopped sandbox's, with the hash of every refresh token and code that it has issued.

    """
    known = _known(secrets, sandbox_state)
    return tuple(
        f"{path.relative_to(folder)}, line {leak.line}: {' and '.join(sorted(leak.kinds))}"
        for path in _told(folder)
        for leak in known.leaks(path.read_bytes().decode("latin-1"))
    )


def _known(secrets: Mapping[str, Secret], sandbox_state: Path) -> KnownSecrets:
    known = KnownSecrets()
    for kind, secret in secrets.items():
        known.add(secret.reveal(), kind)
    for beginning in _JWT_BEGINNINGS:
        known.add(beginning, "an access token")
    with closing(sqlite3.connect(sandbox_state)) as connection:
        for kind, statement in _HASHES.items():
            for (sha256,) in connection.execute(statement):
                known.add_hash(sha256, kind)
    return known


def _told(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name not in _KEEPS_A_SECRET and not name.startswith(_KEPT) and path.is_file():
            yield path
