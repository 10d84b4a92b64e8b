"""A message of the Standard Webhooks specification, 1.0.0: payload, id, and a signature by each secret."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from standardwebhooks import Webhook

from worker.domain.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One event for one endpoint: the same id and the same bytes however often it is sent."""

    id: str
    payload: str


def event_message(
    *,
    event_id: int,
    at: datetime,
    event_type: str,
    client: str,
    grant_id: UUID | None,
    subject: str | None,
    data: Mapping[str, Any],
) -> Message:
    """Return the message of an event.

    Its id holds the instant too: after a database was restored from a backup, events take old numbers anew, and a
    receiver that has seen one must not take another for it.
    """
    about = {**data, "id": event_id, "client": client, "grant": str(grant_id) if grant_id else None, "subject": subject}
    micros = int(at.timestamp()) * 1_000_000 + at.microsecond
    return _message(f"evt_{event_id}_{micros:x}", event_type, at, about)


def trial_message(*, unique: UUID, at: datetime, endpoint: str) -> Message:
    """Return a message with which an operator tries an endpoint; no event stands behind it."""
    return _message(f"test_{unique.hex}", "webhook.test", at, {"endpoint": endpoint})


def signed_headers(message: Message, secrets: Iterable[Secret], sent_at: datetime) -> dict[str, str]:
    """Return the headers of one attempt, with a signature by each secret so that one can replace another.

    Args:
        message: what is sent.
        secrets: `whsec_…`.
        sent_at: when this attempt is made.

    """
    # The library takes the date and time as they are written, and calls them UTC.
    attempt = sent_at.astimezone(UTC)
    signatures = (Webhook(secret.reveal()).sign(message.id, attempt, message.payload) for secret in secrets)
    return {
        "content-type": "application/json",
        "webhook-id": message.id,
        "webhook-timestamp": str(int(attempt.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def _message(message_id: str, event_type: str, at: datetime, data: Mapping[str, Any]) -> Message:
    timestamp = at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    payload = {"type": event_type, "timestamp": timestamp, "data": data}
    return Message(id=message_id, payload=json.dumps(payload, separators=(",", ":"), ensure_ascii=False))
