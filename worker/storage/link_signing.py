"""The links in mails: an id and an end, signed. Nothing of a link is stored, so that whoever reads the tables has none.

16 bytes    id of the mail's message
 8 bytes    the link's end, seconds since the epoch
32 bytes    signature of both (HMAC-SHA-256)
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from worker.domain.secret import Secret
from worker.storage.sealing import KeyRing

_ID_BYTES: Final = 16
_END_BYTES: Final = 8
_SIGNED: Final = _ID_BYTES + _END_BYTES
_LENGTH: Final = _SIGNED + 32
_LAST: Final = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What a link says: which mail it came with, and until when it is good."""

    message_id: UUID
    expires_at: datetime  #: to the second


def write_link(link: Link, keys: KeyRing) -> Secret:
    """Return a link's last part, the same for the same mail as long as the sealing key is the same."""
    signed = link.message_id.bytes + int(link.expires_at.timestamp()).to_bytes(_END_BYTES, "big")
    return Secret(base64.urlsafe_b64encode(signed + keys.sign(signed)).rstrip(b"=").decode("ascii"))


def read_link(text: Secret, keys: KeyRing) -> Link | None:
    """Return what a link says, or None where it is not signed by us."""
    written = text.reveal()
    try:
        found = base64.b64decode(written + "=" * (-len(written) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    # Base64 has several spellings of the same bytes; only ours counts.
    spelt = base64.urlsafe_b64encode(found).rstrip(b"=").decode("ascii")
    signed, signature = found[:_SIGNED], found[_SIGNED:]
    if len(found) != _LENGTH or spelt != written or not keys.has_signed(signed, signature):
        return None
    seconds = int.from_bytes(signed[_ID_BYTES:], "big")
    end = datetime.fromtimestamp(min(seconds, int(_LAST.timestamp())), tz=UTC)
    return Link(message_id=UUID(bytes=signed[:_ID_BYTES]), expires_at=end)
