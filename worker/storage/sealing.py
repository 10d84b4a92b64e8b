"""Sealed columns: AES-256-GCM under a ring of keys with ids, each ciphertext bound to its table, column and row.

    byte 0        format, 1
    byte 1        length of the key's id
    …             the key's id
    12 bytes      nonce
    …             ciphertext and tag

Reading a row opens nothing; `KeyRing.open` does, by name, where the value is needed.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from worker.domain.errors import BrokenSealError, ConfigurationError, UnknownKeyError
from worker.domain.secret import Secret

_FORMAT: Final = 1
_NONCE_BYTES: Final = 12  # NIST SP 800-38D: the length AES-GCM is made for
KEY_BYTES: Final = 32  # AES-256
_FINGERPRINT: Final = b"evergrant: fingerprints of refresh tokens"  # sets the derived key apart from the sealing one
_SIGNATURE: Final = b"evergrant: signatures of links"  # likewise
_IDENTITY: Final = b"evergrant: which key this is"  # likewise
_FINGERPRINT_BYTES: Final = 16  # 128 bits: no two tokens of one installation meet by chance
_KEY_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,32}")


@dataclass(frozen=True, slots=True)
class Column:
    """Where a sealed value lives; with the row's id it is authenticated, so that ciphertexts cannot be moved."""

    table: str
    column: str

    def bound_to(self, row: UUID | str) -> bytes:
        """Return the associated data for one row."""
        return f"{self.table}.{self.column}:{row}".encode()


ACCESS_TOKEN: Final = Column("grants", "access_token")
REFRESH_TOKEN: Final = Column("grants", "refresh_token")
CODE_VERIFIER: Final = Column("authorization_requests", "code_verifier")
ANSWER: Final = Column("idempotent_requests", "answer")


class KeyRing:
    """The keys under which columns are sealed: the first seals, all open.

    Args:
        keys: 32-byte keys by id, the sealing one first.
        random_bytes: source of nonces, such as `os.urandom`.

    """

    def __init__(self, keys: dict[str, Secret], random_bytes: Callable[[int], bytes]) -> None:
        self._ciphers = {key_id: AESGCM(base64.b64decode(key.reveal())) for key_id, key in keys.items()}
        self._fingerprint_keys = _derived(keys, _FINGERPRINT)
        #: Begun once: what hmac prepares for a key takes longer than what it then does with a token.
        self._fingerprints = {
            key_id: hmac.new(key, digestmod="sha256") for key_id, key in self._fingerprint_keys.items()
        }
        self._signature_keys = _derived(keys, _SIGNATURE)
        self._sealing_id = next(iter(keys))
        self._header = header_of(self._sealing_id)
        self._random_bytes = random_bytes

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self._ciphers)})"

    @property
    def key_ids(self) -> tuple[str, ...]:
        """Return the ids of all keys, the sealing one first."""
        return tuple(self._ciphers)

    @property
    def sealing_id(self) -> str:
        """Return the id of the key that seals."""
        return self._sealing_id

    def identity(self, key_id: str) -> str:
        """Return what tells a key of the ring from another one under the same id, and nothing else about it."""
        return hmac.digest(self._fingerprint_keys[key_id], _IDENTITY, "sha256")[:_FINGERPRINT_BYTES].hex()

    def reseal(self, sealed: bytes, column: Column, row: UUID | str) -> bytes:
        """Return what was sealed for this column of this row, sealed under the key that seals now.

        Raises:
            UnknownKeyError: as `open` does.
            BrokenSealError: likewise.

        """
        return self.seal(self.open(sealed, column, row), column, row)

    def seal(self, value: Secret, column: Column, row: UUID | str) -> bytes:
        """Seal a value for one column of one row."""
        header = self._header
        nonce = self._random_bytes(_NONCE_BYTES)
        bound = header + column.bound_to(row)
        # JSON can bring half of a surrogate pair; a token that cannot be sealed would be lost.
        plain = value.reveal().encode("utf-8", "surrogatepass")
        return header + nonce + self._ciphers[self._sealing_id].encrypt(nonce, plain, bound)

    def fingerprint(self, value: Secret) -> str:
        """Return a keyed fingerprint (HMAC-SHA-256) of a token: equal for equal tokens, useless to whoever has no key.

        It names the key it was made with, for fingerprints of different keys do not compare.
        """
        return _fingerprint(self._sealing_id, self._fingerprints[self._sealing_id], value)

    def fingerprints(self, value: Secret) -> tuple[str, ...]:
        """Return a token's fingerprint under each key, the sealing one first, to find what an older key has made."""
        return tuple(_fingerprint(key_id, begun, value) for key_id, begun in self._fingerprints.items())

    def sign(self, message: bytes) -> bytes:
        """Return a signature (HMAC-SHA-256) by the sealing key, 32 bytes."""
        return hmac.digest(self._signature_keys[self._sealing_id], message, "sha256")

    def has_signed(self, message: bytes, signature: bytes) -> bool:
        """Tell whether a signature is ours, by any key of the ring; a key that was taken out of it counts no more."""
        made = (hmac.digest(key, message, "sha256") for key in self._signature_keys.values())
        return any(hmac.compare_digest(one, signature) for one in made)

    def open(self, sealed: bytes, column: Column, row: UUID | str) -> Secret:
        """Open what was sealed for this column of this row.

        Raises:
            UnknownKeyError: the ring lacks the key it was sealed under; the message names its id.
            BrokenSealError: the key of that id is another one, or the bytes were changed or moved.

        """
        key_id, header, rest = _split(sealed, column, row)
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise UnknownKeyError(
                f"{column.table}.{column.column} of {row} is sealed under key {key_id!r}, which EVERGRANT_KEYS lacks"
            )
        try:
            opened = cipher.decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], header + column.bound_to(row))
        except InvalidTag:
            raise BrokenSealError(
                f"{column.table}.{column.column} of {row} does not open with key {key_id!r}: "
                "the key in EVERGRANT_KEYS under this id is another one, or the row was altered"
            ) from None
        return Secret(opened.decode("utf-8", "surrogatepass"))


def _fingerprint(key_id: str, begun: hmac.HMAC, value: Secret) -> str:
    mac = begun.copy()
    mac.update(value.reveal().encode("utf-8", "surrogatepass"))
    return f"{key_id}:{mac.digest()[:_FINGERPRINT_BYTES].hex()}"


def _derived(keys: dict[str, Secret], use: bytes) -> dict[str, bytes]:
    return {key_id: hmac.digest(base64.b64decode(key.reveal()), use, "sha256") for key_id, key in keys.items()}


def header_of(key_id: str) -> bytes:
    """Return the bytes that everything begins with that is sealed under a key."""
    encoded = key_id.encode("ascii")
    return bytes((_FORMAT, len(encoded))) + encoded


def key_id_of(sealed: bytes) -> str:
    """Return the id of the key that bytes say they are sealed under."""
    return sealed[2 : 2 + sealed[1]].decode("ascii", "replace") if len(sealed) > 1 else ""


def _split(sealed: bytes, column: Column, row: UUID | str) -> tuple[str, bytes, bytes]:
    end = 2 + sealed[1] if len(sealed) > 1 else 0
    if not sealed or sealed[0] != _FORMAT or len(sealed) < end + _NONCE_BYTES + 16:
        raise BrokenSealError(f"{column.table}.{column.column} of {row} is not a sealed value")
    return sealed[2:end].decode("ascii", "replace"), sealed[:end], sealed[end:]


def parse_keys(text: Secret) -> dict[str, Secret]:
    """Read `id:base64,id:base64`, the form of EVERGRANT_KEYS.

    Raises:
        ConfigurationError: names the entry's place and what is wrong with it, never the key.

    """
    keys: dict[str, Secret] = {}
    for place, entry in enumerate(text.reveal().split(","), start=1):
        key_id, separator, encoded = entry.strip().partition(":")
        if not separator or not _KEY_ID.fullmatch(key_id):
            raise ConfigurationError(f"EVERGRANT_KEYS: entry {place} is not of the form id:base64")
        if key_id in keys:
            raise ConfigurationError(f"EVERGRANT_KEYS: the id {key_id!r} stands twice")
        try:
            length = len(base64.b64decode(encoded, validate=True))
        except (binascii.Error, ValueError):
            raise ConfigurationError(f"EVERGRANT_KEYS: key {key_id!r} is not base64") from None
        if length != KEY_BYTES:
            raise ConfigurationError(
                f"EVERGRANT_KEYS: key {key_id!r} has {length} bytes instead of {KEY_BYTES}; "
                "`evergrant keys generate` makes one"
            )
        keys[key_id] = Secret(encoded)
    return keys


def check_key_id(key_id: str) -> None:
    """Refuse what cannot be a key's id.

    Raises:
        ConfigurationError: says what an id looks like.

    """
    if not _KEY_ID.fullmatch(key_id):
        raise ConfigurationError(f"a key's id has 1 to 32 letters, digits, '_', '.' or '-', not {key_id!r}")


def generate_key(key_id: str, random_bytes: Callable[[int], bytes]) -> Secret:
    """Make a new key in the form that EVERGRANT_KEYS takes."""
    check_key_id(key_id)
    return Secret(f"{key_id}:{base64.b64encode(random_bytes(KEY_BYTES)).decode('ascii')}")
