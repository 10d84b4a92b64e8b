"""The part of the composition root that is about the key ring: the check at every start, and re-sealing."""

from __future__ import annotations

import os

from sqlalchemy.ext.asyncio import AsyncEngine

from worker.settings import Settings
from worker.storage import consent_escrow, escrow_entry
from worker.storage.escrow_homes import escrow_homes
from worker.storage.key_records import KeyRecords
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
