"""The keys that tables are sealed under."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from worker.storage.tables.base import Base


class SealingKey(Base):
    """A key that seals, or has sealed, something in this database: a ring that lacks it is refused at the start."""

    __tablename__ = "sealing_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    #: Tells the key from another one under the same id; null until a process that has the key has looked.
    identity: Mapped[str | None]
    first_used_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
