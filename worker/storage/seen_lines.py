"""Which line of an import named a grant or a token first: on disk, so that a million take no more memory than ten.

A temporary database of SQLite's, which the system removes with the process. It holds keyed digests: neither a name nor
a token can be read back from it.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from worker.domain.secret import Secret

#: 128 bits: no two of some million names meet by chance.
_DIGEST_BYTES: Final = 16
#: Page cache, in KiB; a million lines make some 60 MiB, most of which waits in the system's own cache.
_CACHE_KIB: Final = 8_192


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenLine:
    """What of a line must not come twice; `refresh_token` is None where grants may share it."""

    number: int
    client: str
    subject: str
    refresh_token: Secret | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeated:
    """A line that names what an earlier one has named."""

    first: int
    is_grant: bool  #: the same client and subject; else the same refresh token


class SeenLines:
    """Remembers lines, for as long as a `with` block, in any thread.

    Args:
        key: 16 to 64 random bytes, under which the digests are made.

    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._one_at_a_time = threading.Lock()

    def __enter__(self) -> Self:
        # An empty name: a file that is unlinked as soon as it is made.
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for statement in (
            "PRAGMA journal_mode = OFF",
            "PRAGMA synchronous = OFF",
            "PRAGMA locking_mode = EXCLUSIVE",
            f"PRAGMA cache_size = -{_CACHE_KIB}",
            "CREATE TABLE seen (digest BLOB PRIMARY KEY, line INTEGER NOT NULL) WITHOUT ROWID",
            "BEGIN",
        ):
            self._database.execute(statement)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._one_at_a_time:
            self._database.close()

    def add(self, lines: Sequence[SeenLine]) -> list[Repeated | None]:
        """Remember lines, and say of each whether an earlier one named the same."""
        with self._one_at_a_time:
            firsts = self._firsts([(self._digest(line.client, line.subject), line.number) for line in lines])
            found: list[Repeated | None] = [
                Repeated(first=first, is_grant=True) if first != line.number else None
                for line, first in zip(lines, firsts, strict=True)
            ]
            # A line that is not taken for its grant leaves its token to others.
            places = [
                place for place, line in enumerate(lines) if found[place] is None and line.refresh_token is not None
            ]
            tokens = [(self._digest(_revealed(lines[place])), lines[place].number) for place in places]
            for place, first in zip(places, self._firsts(tokens), strict=True):
                if first != lines[place].number:
                    found[place] = Repeated(first=first, is_grant=False)
            return found

    def _firsts(self, seen: Sequence[tuple[bytes, int]]) -> list[int]:
        """Remember digests, each under the number of its line; return under which one each was remembered first."""
        before = self._database.total_changes
        self._database.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?)", seen)
        if self._database.total_changes - before == len(seen):
            return [number for _, number in seen]
        found = (self._database.execute("SELECT line FROM seen WHERE digest = ?", (digest,)) for digest, _ in seen)
        return [int(row.fetchone()[0]) for row in found]

    def _digest(self, *parts: str) -> bytes:
        # No name holds a NUL, for it could not be printed.
        whole = "\x00".join(parts).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(whole, digest_size=_DIGEST_BYTES, key=self._key).digest()


def _revealed(line: SeenLine) -> str:
    return line.refresh_token.reveal() if line.refresh_token is not None else ""
