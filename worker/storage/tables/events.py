"""The event log, and its webhooks."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Identity,
    Index,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from worker.storage.table_upkeep import APPENDED
from worker.storage.tables.base import Base


class Event(Base):
    """What happened, newest last; no secret stands in it."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    type: Mapped[str]
    client: Mapped[str]
    grant_id: Mapped[UUID | None]
    subject: Mapped[str | None]
    data: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))

    __table_args__ = (
        Index("ix_events_grant_id", "grant_id", "id"),
        Index("ix_events_client_id", "client", "id"),
        # What the page shows last: an import adds a million of the others at once.
        Index("ix_events_shown", "id", postgresql_where=text("type <> 'grant.created'")),
        # What the brake counts: deaths are rare, so the index is small.
        Index("ix_events_deaths", "client", "at", postgresql_where=text("type = 'grant.reconsent_required'")),
        {"postgresql_with": APPENDED},
    )


class WebhookEndpointRow(Base):
    """How far a webhook endpoint has got, and how it is; which endpoints there are the configuration says."""

    __tablename__ = "webhook_endpoints"

    name: Mapped[str] = mapped_column(primary_key=True)
    #: Keyed fingerprint of the address: an endpoint that was gone is asked again where it has moved to.
    url_fingerprint: Mapped[str]
    #: The last event that was looked at; those after it wait in `events` alone.
    read_until: Mapped[int]
    paused_at: Mapped[datetime | None]
    paused_reason: Mapped[str | None]
    #: Failures in a row; parallel ones count as one.
    failures: Mapped[int] = mapped_column(server_default="0")
    #: Set by a failure that is not an event's own; past it one delivery at a time is tried, till one arrives.
    held_until: Mapped[datetime | None]
    delivered: Mapped[int] = mapped_column(server_default="0")
    delivered_at: Mapped[datetime | None]
    last_error: Mapped[str | None]
    last_error_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class WebhookDelivery(Base):
    """An event that waits for one endpoint, or is dead for it. What was delivered has no row any more."""

    __tablename__ = "webhook_deliveries"

    endpoint: Mapped[str] = mapped_column(primary_key=True)
    event_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    #: The endpoint and the grant's id, or the client's name where the event is about no grant: of one lane, one after
    #: the other. With the endpoint in it, it is found along its own index whatever the statistics say.
    lane: Mapped[str]
    failures: Mapped[int] = mapped_column(server_default="0")
    next_attempt_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    claim_id: Mapped[UUID | None]
    claimed_until: Mapped[datetime | None]
    #: It failed for its endpoint's sake, and is tried as soon as the endpoint is back.
    awaits_endpoint: Mapped[bool] = mapped_column(server_default=text("false"))
    dead_at: Mapped[datetime | None]
    last_error: Mapped[str | None]
    last_error_at: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_webhook_deliveries_due", "endpoint", "next_attempt_at", postgresql_where=text("dead_at IS NULL")),
        Index("ix_webhook_deliveries_lane", "lane", "event_id", postgresql_where=text("dead_at IS NULL")),
        Index(
            "ix_webhook_deliveries_claimed",
            "endpoint",
            "claimed_until",
            postgresql_where=text("claimed_until IS NOT NULL"),
        ),
        Index("ix_webhook_deliveries_dead", "endpoint", "event_id", postgresql_where=text("dead_at IS NOT NULL")),
    )
