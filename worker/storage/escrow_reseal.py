"""Re-sealing what waits in the escrow, so that an entry does not outlive the key it was sealed under."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from worker.domain.errors import SealError
from worker.storage.escrow_homes import HOME_AWAY, EscrowHome


@dataclass(slots=True, kw_only=True)
class EntriesResealed:
    """What became of entries."""

    resealed: int = 0
    unreadable: int = 0
    away: int = 0  #: homes that did not answer


async def reseal_entries(homes: Sequence[EscrowHome], reseal: Callable[[str, str], str]) -> EntriesResealed:
    """Seal what waits anew where it needs it.

    An entry that is stored and removed meanwhile may come back; it is then found stored, and removed again.

    Args:
        homes: where entries of one kind wait.
        reseal: returns an entry as it is to be, given its name and text.

    """
    done = EntriesResealed()
    for home in homes:
        try:
            for name in await home.names():
                await _reseal(home, name, reseal, done)
        except HOME_AWAY:
            done.away += 1
    return done


async def _reseal(home: EscrowHome, name: str, reseal: Callable[[str, str], str], done: EntriesResealed) -> None:
    try:
        entry = await home.read(name)
        changed = reseal(name, entry) if entry is not None else None
    except (SealError, ValueError, KeyError, TypeError):  # damaged, or of another version: it stays as it is
        done.unreadable += 1
        return
    if entry is not None and changed is not None and changed != entry:
        await home.put(name, changed)
        done.resealed += 1
