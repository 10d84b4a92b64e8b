"""Webhooks, decided: what an endpoint's answer means, when to try again, when to give up, when to spare an endpoint.

As the Standard Webhooks specification, 1.0.0, says under "Operational considerations". Time and chance are arguments.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Final

#: The specification's schedule: the wait after the first failure, the second and so on. It spans three days.
SCHEDULE: Final = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
#: After so many failures an event is dead for an endpoint.
ATTEMPTS: Final = len(SCHEDULE) + 1
#: An endpoint that asks for more patience than this is asked again anyway: it is the schedule's last step.
LONGEST_WAIT: Final = timedelta(hours=24)
#: So many failures in a row, without one delivery, are the endpoint's and not an event's.
FAILURES_OF_ENDPOINT: Final = 5
#: First and longest bound of the wait before an endpoint that failed is tried again with one delivery.
HOLD_BASE: Final = timedelta(seconds=1)
LONGEST_HOLD: Final = timedelta(minutes=5)

#: Answers that say "not now" for every event alike; the specification names 429, 502 and 504.
_NOT_NOW: Final = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The endpoint has taken the event: it answered 2xx."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The endpoint has not taken the event.

    `error` is why, in plain words without anything secret; `not_now` tells that any other event would have failed too.
    """

    error: str
    not_now: bool
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """The endpoint wants no events any more: it answered 410."""


Attempt = Delivered | Failed | Gone


def judge(status: int, retry_after: timedelta | None) -> Attempt:
    """Return what an answer means.

    Args:
        status: the answer's.
        retry_after: what its `Retry-After` asks for, if it has one.

    """
    if 200 <= status < 300:  # noqa: PLR2004 -- RFC 9110 section 15.3
        return Delivered()
    if status == HTTPStatus.GONE:
        return Gone()
    redirected = 300 <= status < 400  # noqa: PLR2004 -- RFC 9110 section 15.4
    error = f"it answered {status}" + (", and redirects are not followed: change its url" if redirected else "")
    patience = min(retry_after, LONGEST_WAIT) if retry_after is not None else None
    return Failed(error=error, not_now=status in _NOT_NOW, retry_after=patience)


def next_wait(failures: int, retry_after: timedelta | None, draw: float) -> timedelta | None:
    """Return how long an event waits after a failure; None: it was the last attempt, and the event is dead.

    Full jitter over twice the schedule's step, so that the schedule is kept on the average.

    Args:
        failures: how often it has failed now, at least 1.
        retry_after: what the endpoint has asked for.
        draw: chance in [0, 1).

    """
    if failures >= ATTEMPTS:
        return None
    return max(2 * draw * SCHEDULE[max(failures, 1) - 1], retry_after or timedelta(0))


def hold(failures: int, failed: Failed, draw: float) -> timedelta | None:
    """Return how long an endpoint is spared after a failure; None: this says nothing of other events.

    Args:
        failures: how often the endpoint has failed in a row, this one included; parallel failures count as one.
        failed: how.
        draw: chance in [0, 1).

    """
    if not failed.not_now and failures < FAILURES_OF_ENDPOINT:
        return None
    bound = min(HOLD_BASE * float(2 ** min(max(failures, 1), 30)), LONGEST_HOLD)
    return max(HOLD_BASE / 2 + (bound - HOLD_BASE / 2) * draw, failed.retry_after or timedelta(0))
