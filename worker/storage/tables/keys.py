"""The keys that tables are sealed under, and the processes that have them."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Mapped, mapped_column

from worker.storage.tables.base import Base


class SealingKey(Base):
    """A key that seals, or has sealed, something in this database: a ring that lacks it is refused at the start."""

    __tablename__ = "sealing_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    #: Tells the key from another one under the same id; null until a process that has the key has looked.
    identity: Mapped[str | None]
    first_used_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class RingHolder(Base):
    """A process that seals and opens, noted by itself while it runs: with which keys, and what its escrow holds."""

    __tablename__ = "ring_holders"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    role: Mapped[str]
    host: Mapped[str]
    pid: Mapped[int]
    #: EVERGRANT_HOME_DIR: the escrow's folder is below it.
    home: Mapped[str]
    #: The one that seals first.
    key_ids: Mapped[list[str]]
    #: How many files of the escrow are sealed under each key.
    escrow: Mapped[dict[str, Any]]
    started_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    seen_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    #: When it ended in good order; it is kept only for the escrow that it left.
    ended_at: Mapped[datetime | None]
