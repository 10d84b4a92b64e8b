"""The tables, by subject. A column named `…_at` is an instant (UTC, the database's clock); a sealed one is `bytea`."""

from __future__ import annotations

from worker.storage.tables import access, clients, consents, events, grants, keys
from worker.storage.tables.access import NO_TOKEN_GIVEN
from worker.storage.tables.base import Base
from worker.storage.tables.consents import ReconsentMail
from worker.storage.tables.grants import Grant

__all__ = [
    "NO_TOKEN_GIVEN",
    "Base",
    "Grant",
    "ReconsentMail",
    "access",
    "clients",
    "consents",
    "events",
    "grants",
    "keys",
]
