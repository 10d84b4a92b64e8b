"""Tokens that follow from numbers: grant and generation, so that a million grants need four bytes each.

A refresh token reads `rt.<number>.<generation>.<mac>`; whoever has the key can make it and tell what it is.
"""

from __future__ import annotations

import hashlib
from typing import Final

#: Nothing that these tokens open exists; the key only keeps a garbled token from being taken for another.
_KEY: Final = b"made-up tokens of a benchmark"
#: Characters of an access token: between an opaque one (40) and a JSON Web Token (800 and more).
_ACCESS_LENGTH: Final = 128


def refresh_token(number: int, generation: int) -> str:
    """Return the refresh token of a grant's generation."""
    told = f"rt.{number}.{generation}"
    return f"{told}.{_mac(told.encode())}"


def access_token(number: int, generation: int) -> str:
    """Return the access token of a grant's generation, as long as a real one."""
    told = f"at.{number}.{generation}"
    return f"{told}.{_mac(told.encode())}".ljust(_ACCESS_LENGTH, "x")


def read_refresh_token(token: bytes) -> tuple[int, int] | None:
    """Return number and generation of a refresh token; None for anything that was not made here."""
    told, _, mac = token.rpartition(b".")
    if not told or _mac(told) != mac.decode("ascii", "replace"):
        return None
    _, number, generation = told.split(b".")
    return int(number), int(generation)


def _mac(told: bytes) -> str:
    return hashlib.blake2s(told, key=_KEY, digest_size=16).hexdigest()
