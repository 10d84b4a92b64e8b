"""Messages of the Standard Webhooks specification: id, payload and signatures."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from tests.support.webhooks import OTHER_SECRET, SECRET
from worker.domain.secret import Secret
from worker.webhooks.message import Message, event_message, signed_headers

AT = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
GRANT = UUID("018f3c5e-0000-4000-8000-000000000000")


def message(event_id: int = 7, at: datetime = AT) -> Message:
    """Make the message of an event."""
    return event_message(
        event_id=event_id,
        at=at,
        event_type="grant.in_doubt",
        client="askara-main",
        grant_id=GRANT,
        subject="Kundin Ö",
        data={"generation": 3, "reason": "timeout"},
    )


def test_a_payload_is_what_the_specification_says() -> None:
    """`type`, `timestamp` and `data`; the details stand beside the event's id, client, grant and subject."""
    assert json.loads(message().payload) == {
        "type": "grant.in_doubt",
        "timestamp": "2026-03-01T12:00:00.123456Z",
        "data": {
            "id": 7,
            "client": "askara-main",
            "grant": str(GRANT),
            "subject": "Kundin Ö",
            "generation": 3,
            "reason": "timeout",
        },
    }


@given(
    offset=st.integers(-12, 14),
    other=st.datetimes(timezones=st.just(UTC), min_value=datetime(2020, 1, 1)),  # noqa: DTZ001 -- Hypothesis adds the zone
)
def test_an_id_is_an_events_own(offset: int, other: datetime) -> None:
    """The same event has the same id however its instant is written; a number that is used anew has another."""
    same = AT.astimezone(timezone(timedelta(hours=offset)))
    assert message(at=same) == message()
    assert (message(at=other).id == message().id) == (other == AT)
    assert message(event_id=8).id != message().id


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=9))])
def test_each_secret_signs(zone: timezone) -> None:
    """The library verifies by either secret, whatever zone the instant of the attempt is given in."""
    now = datetime.now(zone)  # noqa: TID251 -- the library compares with the real clock
    headers = signed_headers(message(), [Secret(OTHER_SECRET), Secret(SECRET)], now)

    assert headers["webhook-id"] == message().id
    assert headers["webhook-timestamp"] == str(int(now.timestamp()))
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in (SECRET, OTHER_SECRET):
        assert Webhook(secret).verify(message().payload, headers)["type"] == "grant.in_doubt"
