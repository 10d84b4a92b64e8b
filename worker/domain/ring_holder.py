"""Which processes stand in the way of a change of keys: a pure decision over what each says of its ring."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

#: Stands for the key of an entry that cannot be read.
UNREADABLE: Final = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RingHolder:
    """A process that runs, and the keys of its ring, the one that seals first."""

    role: str
    host: str
    pid: int
    since: datetime
    key_ids: tuple[str, ...]

    @property
    def sealing_id(self) -> str:
        """Return the id of the key that it seals under."""
        return self.key_ids[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class EscrowReport:
    """What the escrow's folder of a machine held, by the last process there that said so."""

    host: str
    home: str
    at: datetime
    entries: Mapping[str, int]  #: how many are sealed under each key


def lacking(holders: Iterable[RingHolder], key_id: str) -> tuple[RingHolder, ...]:
    """Return the processes that could not open what a key seals."""
    return tuple(one for one in holders if key_id not in one.key_ids)


def sealing_otherwise(holders: Iterable[RingHolder], key_id: str) -> tuple[RingHolder, ...]:
    """Return the processes that go on sealing under another key than this one."""
    return tuple(one for one in holders if one.sealing_id != key_id)


def needing(reports: Iterable[EscrowReport], key_id: str) -> tuple[EscrowReport, ...]:
    """Return the folders with entries that are sealed under a key, or that nobody could read."""
    return tuple(one for one in reports if one.entries.get(key_id) or one.entries.get(UNREADABLE))
