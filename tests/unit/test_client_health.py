"""What one outcome does to the whole client, and how long a breaker waits."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.domain.client_health import (
    DEFAULT_THROTTLE,
    LONGEST_THROTTLE,
    SILENCE_WAIT,
    SILENT_AFTER,
    ClientEffect,
    CloseBreaker,
    OpenBreaker,
    Throttle,
    canary_wait,
    client_effect,
    unread_in_a_row,
)
from worker.domain.outcome import (
    Cause,
    Dead,
    InDoubt,
    Misconfigured,
    Outcome,
    Reason,
    Rotated,
    Throttled,
    Tokens,
    Unavailable,
)
from worker.domain.secret import Secret

CAUSE = Cause(reason=Reason.INVALID_CLIENT, status=401, code="invalid_client")
TOKENS = Tokens(access_token=Secret("at"), refresh_token=None, access_lifetime=None)


@pytest.mark.parametrize(
    ("outcome", "effect"),
    [
        pytest.param(Rotated(tokens=TOKENS), CloseBreaker(), id="a rotation closes the breaker"),
        pytest.param(Misconfigured(cause=CAUSE), OpenBreaker(cause=CAUSE), id="our fault opens it"),
        pytest.param(Dead(cause=CAUSE), CloseBreaker(), id="a refusal of the grant shows that we are accepted"),
        pytest.param(Unavailable(cause=CAUSE), None, id="unavailable"),
        pytest.param(Unavailable(cause=CAUSE, sent=True), None, id="refused"),
        pytest.param(InDoubt(cause=CAUSE), None, id="in doubt"),
        pytest.param(Throttled(cause=CAUSE), Throttle(cause=CAUSE, wait=DEFAULT_THROTTLE), id="throttled, no time"),
    ],
)
def test_outcomes_and_their_effect_on_the_client(outcome: Outcome, effect: ClientEffect) -> None:
    """Our own faults open the breaker, an answer about the grant itself closes it, and only throttling pauses."""
    assert client_effect(outcome) == effect


def test_silence_stops_a_client() -> None:
    """Ten unread answers in a row open the breaker for a moment, as one to a canary does; any answer begins anew."""
    unread = InDoubt(cause=CAUSE)
    stopped = OpenBreaker(cause=CAUSE, wait=SILENCE_WAIT)
    not_sent, refused = Unavailable(cause=CAUSE), Unavailable(cause=CAUSE, sent=True)
    outcomes: list[Outcome] = [*[unread] * 9, not_sent, unread, refused, unread]
    counts = [0]
    for outcome in outcomes:
        counts.append(unread_in_a_row(counts[-1], outcome))

    assert counts == [*range(10), 9, 10, 0, 1]
    assert client_effect(unread, unread=SILENT_AFTER - 1) is None
    assert client_effect(unread, unread=SILENT_AFTER) == stopped
    assert client_effect(unread, unread=1, is_canary=True) == stopped


@pytest.mark.parametrize(
    ("asked", "wait"),
    [(-5, 1), (0, 1), (0.3, 1), (1, 1), (7, 7), (1800, 1800), (1801, 1800), (86_400, 1800), (10**9, 1800)],
)
def test_a_pause_is_as_asked_within_reason(asked: float, wait: float) -> None:
    """A pause lasts at least a second and at most half an hour, whatever the provider asks for."""
    effect = client_effect(Throttled(cause=CAUSE, retry_after=timedelta(seconds=asked)))

    assert effect == Throttle(cause=CAUSE, wait=timedelta(seconds=wait))


@settings(deadline=None)
@given(asked=st.none() | st.timedeltas())
def test_no_header_silences_a_client_for_long(asked: timedelta | None) -> None:
    """Whatever is asked for, the pause is positive and bounded."""
    effect = client_effect(Throttled(cause=CAUSE, retry_after=asked))

    assert isinstance(effect, Throttle)
    assert timedelta(seconds=1) <= effect.wait <= LONGEST_THROTTLE


def test_canaries_come_less_and_less_often() -> None:
    """The wait doubles from 10 s to five minutes and stays there."""
    waits = [canary_wait(failed).total_seconds() for failed in (0, 1, 2, 3, 4, 5, 6, 100, 10**9)]

    assert waits == [10, 20, 40, 80, 160, 300, 300, 300, 300]
