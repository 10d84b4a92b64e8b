"""The part of the composition root that is about the key ring: the check at every start, and re-sealing."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncEngine

from worker.settings import Settings
from worker.storage import consent_escrow, escrow_entry
from worker.storage.escrow_homes import escrow_homes
from worker.storage.escrow_keys import keys_of_files
from worker.storage.key_records import KeyRecords
from worker.storage.ring_holders import OwnProcess, RingNote
from worker.storage.sealing import KeyRing, parse_keys
from worker.usecases.reseal import Resealing


def create_key_ring(settings: Settings) -> KeyRing:
    """Return the key ring.

    Raises:
        ConfigurationError: when there is none, or it is not well-formed.

    """
    return KeyRing(parse_keys(settings.require_keys()), os.urandom)


def create_key_records(settings: Settings) -> KeyRecords:
    """Return the notes of which keys this database needs, to be checked with this process's ring."""
    return KeyRecords(settings.require_database(), create_key_ring(settings))


def create_resealing(settings: Settings, engine: AsyncEngine) -> Resealing:
    """Wire re-sealing on a process's connections."""
    folder = settings.home_dir / "escrow"
    return Resealing(
        engine=engine,
        keys=create_key_ring(settings),
        settlements=escrow_homes(folder, settings.broker_url, suffix=escrow_entry.SUFFIX, key=escrow_entry.KEY),
        consents=escrow_homes(folder, settings.broker_url, suffix=consent_escrow.SUFFIX, key=consent_escrow.KEY),
    )


def create_ring_note(
    settings: Settings, engine: AsyncEngine, keys: KeyRing, *, name: str, on_retired: Callable[[str], None]
) -> RingNote:
    """Return a process's note of which keys it has; `name` is what it is called in `pg_stat_activity`."""
    home = settings.home_dir.resolve()
    own = OwnProcess(
        id=uuid4(),
        role=name.removeprefix("evergrant ").split()[0],
        host=socket.gethostname(),
        pid=os.getpid(),
        home=str(home),
        key_ids=keys.key_ids,
    )
    return RingNote(engine, own, lambda: keys_of_files(home / "escrow"), on_retired)
