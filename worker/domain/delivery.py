"""What became of handing a mail to the server, as values.

Accepted ──► the server has it
Refused ───► it never will (RFC 5321 section 4.2.1: 5yz)
Deferred ──► not now (4yz)
Doubtful ──► the mail was handed over and no answer was read: it may or may not have it
Trouble ───► it was not asked: no connection, no encryption, no login, or it does not take our sender
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

#: RFC 3463 section 2: class, subject and detail, at the beginning of a reply.
_ENHANCED: Final = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})\b")
#: RFC 5321 section 4.2.3: no such mailbox, not a local user, and a name that no mailbox may have.
_NO_SUCH_MAILBOX: Final = frozenset({550, 551, 553})
#: RFC 3463 sections 3.2 and 3.3: it is the address, or the mailbox behind it.
_ABOUT_THE_ADDRESS: Final = frozenset({"1", "2"})
#: A reply is a line for people; longer ones are cut.
_LONGEST_REPLY: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The server has taken the mail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The server will never take the mail."""

    status: int | None  #: the reply's code; None: we did not ask, for no server could take it
    reply: str

    @property
    def is_address_wrong(self) -> bool:
        """Whether it is the address that is refused, and not the mail, its sender or our server."""
        return is_address_wrong(self.status, self.reply)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred:
    """The server does not take the mail now."""

    status: int | None
    reply: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubtful:
    """The mail was handed over, and whether the server took it is not known."""

    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """The server could not be asked: it concerns every mail."""

    status: int | None
    what: str


Delivery = Accepted | Refused | Deferred | Doubtful | Trouble


def is_address_wrong(status: int | None, reply: str) -> bool:
    """Tell whether a refusal is about the address: no such mailbox, a full or a closed one."""
    enhanced = _ENHANCED.match(reply)
    if enhanced is not None:
        return enhanced[1] == "5" and enhanced[2] in _ABOUT_THE_ADDRESS
    return status in _NO_SUCH_MAILBOX


def readable(reply: str) -> str:
    """Return a server's reply as one printable line."""
    text = "".join(character if character.isprintable() else " " for character in reply)
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_REPLY else f"{text[: _LONGEST_REPLY - 1]}…"
