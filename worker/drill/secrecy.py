"""Finds secrets in what was told: pure, from text and known secrets to lines and kinds. No answer repeats a secret.

A secret is looked for by the beginning of each of its parts, so that it is found whatever stands around it and where it
is cut short. Of a token that nobody keeps, its hash is enough.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

#: Characters of a part's beginning that are looked for: 96 bits of a random one, which nothing else begins with.
START: Final = 16
#: Characters of a token that is known by its hash: 32 bytes in base64url, as the sandbox makes them.
HASHED: Final = 43
#: What encodings and quotes leave of a secret in one piece; in between, they write the same character differently.
_PART: Final = re.compile(rf"[A-Za-z0-9_-]{{{START},}}")
#: Different characters that a part's beginning has at least: what has fewer is a filler, and no secret that was drawn.
_DIFFERENT: Final = 4
#: Characters of a passphrase, whose parts are words, that is looked for as a whole.
_PHRASE: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """A secret that stands in a text: in which line, the first is 1, and of which kinds it is."""

    line: int
    kinds: frozenset[str]


@dataclass(slots=True)
class KnownSecrets:
    """The secrets that are looked for, each with its kinds: what it is, or where it was made.

    Attributes:
        starts: by the first characters of a part.
        hashes: by the SHA-256 of the whole.
        phrases: those that have no part which is long enough.

    """

    starts: dict[str, set[str]] = field(default_factory=dict)
    hashes: dict[bytes, set[str]] = field(default_factory=dict)
    phrases: dict[str, set[str]] = field(default_factory=dict)
    _seen: dict[str, frozenset[str]] = field(default_factory=dict)

    def add(self, secret: str, kind: str) -> None:
        """Know a secret; of an address, its password is one, and the last part of its path. Short ones are words."""
        for its in _secret_parts(secret):
            found = _PART.findall(its)
            for start in (part[:START] for part in found):
                if len(set(start)) >= _DIFFERENT:
                    self.starts.setdefault(start, set()).add(kind)
            if not found and len(its) >= _PHRASE:
                self.phrases.setdefault(its, set()).add(kind)

    def add_hash(self, sha256: bytes, kind: str) -> None:
        """Know a token of `HASHED` characters by its hash."""
        self.hashes.setdefault(sha256, set()).add(kind)

    def leaks(self, text: str) -> Iterator[Leak]:
        """Give each line of a text in which a secret stands, once for each secret."""
        for number, line in enumerate(text.splitlines(), start=1):
            found: Iterable[frozenset[str]] = map(self._kinds, _PART.findall(line))
            for kinds in {*found, *self._kinds_of_phrases(line)}:
                if kinds:
                    yield Leak(line=number, kinds=kinds)

    def _kinds_of_phrases(self, line: str) -> Iterator[frozenset[str]]:
        """Give the kinds of each phrase in a line, with those of longer ones around it: a key stands in its entry."""
        there = {phrase: kinds for phrase, kinds in self.phrases.items() if phrase in line}
        for phrase in there:
            yield frozenset(kind for longer, kinds in there.items() if phrase in longer for kind in kinds)

    def _kinds(self, word: str) -> frozenset[str]:
        """Return the kinds of the secrets that stand in a word. Logs repeat their words: each is looked at once."""
        found = self._seen.get(word)
        if found is None:
            starts = (self.starts.get(word[at : at + START], ()) for at in range(len(word) - START + 1))
            wholes = (word[at : at + HASHED] for at in range(len(word) - HASHED + 1)) if self.hashes else ()
            hashed = (self.hashes.get(hashlib.sha256(whole.encode()).digest(), ()) for whole in wholes)
            found = self._seen[word] = frozenset(kind for kinds in (*starts, *hashed) for kind in kinds)
        return found


def _secret_parts(secret: str) -> Iterator[str]:
    try:
        parts = urlsplit(secret if "://" in secret else "")
    except ValueError:  # it looks like an address, and is none
        parts = urlsplit("")
    if not parts.netloc:
        yield secret
        return
    yield parts.password or ""
    if parts.scheme.startswith("http"):
        yield parts.path.rpartition("/")[2]
