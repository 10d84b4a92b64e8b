"""What holds a client back, and the figures of what was and will be refreshed."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from worker.storage.table_upkeep import CLIENT_STATUS
from worker.storage.tables.base import Base


class ClientStatusRow(Base):
    """What holds a client back: breaker, throttle, operator, rate. Locked for each claim."""

    __tablename__ = "client_status"

    client: Mapped[str] = mapped_column(primary_key=True)
    paused_by_operator: Mapped[bool] = mapped_column(server_default=text("false"))
    throttled_until: Mapped[datetime | None]
    breaker_opened_at: Mapped[datetime | None]
    breaker_reason: Mapped[str | None]
    breaker_code: Mapped[str | None]
    failed_canaries: Mapped[int] = mapped_column(server_default="0")
    canary_at: Mapped[datetime | None]
    #: Since when the client is refreshed again after a breaker or a brake: from here it catches up on a ramp.
    resumed_at: Mapped[datetime | None]
    braked_at: Mapped[datetime | None]
    #: When an operator last said that the client's deaths are real: for a while its brake does not go on.
    brake_overruled_at: Mapped[datetime | None]
    #: Suspects that were refreshed since the brake went on: enough of them release it.
    suspects_refreshed: Mapped[int] = mapped_column(server_default="0")
    bucket: Mapped[float | None]
    bucket_at: Mapped[datetime | None]

    __table_args__ = ({"postgresql_with": CLIENT_STATUS},)


class RefreshHour(Base):
    """How often a client's grants were refreshed within an hour, and with which outcome, as one process counted it.

    A process writes its own count over and over: repeating that changes nothing. Later an hour's counts are folded.
    """

    __tablename__ = "refresh_hours"

    hour: Mapped[datetime] = mapped_column(primary_key=True)
    client: Mapped[str] = mapped_column(primary_key=True)
    outcome: Mapped[str] = mapped_column(primary_key=True)
    #: The process; of counts that were folded, all zeros.
    reporter: Mapped[UUID] = mapped_column(primary_key=True)
    refreshes: Mapped[int]


class Forecast(Base):
    """How much is to come within an hour or a day, as a tick has reckoned it lately."""

    __tablename__ = "forecasts"

    kind: Mapped[str] = mapped_column(
        primary_key=True
    )  #: `refreshes` of an hour, or consents that end on a day: `ends`
    at: Mapped[datetime] = mapped_column(primary_key=True)
    client: Mapped[str] = mapped_column(primary_key=True)
    grants: Mapped[int]
    made_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
