"""What is stored after a refresh: every outcome in every state, and the instants that go with new tokens."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.claimed_grants import claimed_grant
from worker.domain.brake import suspect_wait
from worker.domain.doubt import GIVEN_UP_AFTER
from worker.domain.facts import Keep, OldToken, TokenFacts
from worker.domain.grant import ClaimedGrant, GrantState
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
    label,
    reason,
)
from worker.domain.schedule import backoff
from worker.domain.secret import Secret
from worker.domain.settlement import (
    AddStrike,
    EnterDoubt,
    HandBack,
    Postpone,
    RequireReconsent,
    Settlement,
    StoreTokens,
    decide,
    store_tokens,
)

SENT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ANSWERED = SENT + timedelta(seconds=2)
HOUR = timedelta(hours=1)
DRAW = 0.5

TOKENS = Tokens(access_token=Secret("at-2"), refresh_token=Secret("rt-2"), access_lifetime=HOUR)
DEAD = Dead(cause=Cause(reason=Reason.INVALID_GRANT, status=400, code="invalid_grant"))
MISCONFIGURED = Misconfigured(cause=Cause(reason=Reason.INVALID_CLIENT, status=401, code="invalid_client"))
THROTTLED = Throttled(cause=Cause(reason=Reason.RATE_LIMITED, status=429), retry_after=HOUR)
NOT_SENT = Unavailable(cause=Cause(reason=Reason.CONNECT))
REFUSED = Unavailable(cause=Cause(reason=Reason.UNRECOGNIZED_ERROR, status=400, code="odd"), sent=True)
UNREAD = InDoubt(cause=Cause(reason=Reason.TIMEOUT))

GRANT = claimed_grant(
    claimed_at=SENT,
    leased_until=SENT + timedelta(minutes=1),
    rotate_at=SENT - timedelta(seconds=1),
    consented_at=SENT - timedelta(days=10),
    access_expires_at=SENT + HOUR,
)
DOUBTFUL = replace(GRANT, state=GrantState.IN_DOUBT, presentations=1, doubt_since=SENT - timedelta(minutes=5))

#: What ends a grant by strikes, and when it is tried again should the brake object.
ENDED = RequireReconsent(cause=DEAD.cause, if_braked=ANSWERED + suspect_wait(0, DRAW))

SINGLE_USE = TokenFacts(old_token=OldToken.INVALIDATED)
RESEND_SAFE = TokenFacts(old_token=OldToken.STAYS_VALID)

draws = st.floats(min_value=0, max_value=1, exclude_max=True)
spans = st.none() | st.timedeltas(min_value=timedelta(microseconds=1))


def settled(outcome: Outcome, grant: ClaimedGrant = GRANT, facts: TokenFacts = SINGLE_USE) -> Settlement:
    """Decide with the fixed instants and draw of this module."""
    return decide(outcome, grant=grant, facts=facts, keep=Keep.ACCESS, issued_at=SENT, now=ANSWERED, draw=DRAW)


@pytest.mark.parametrize("state", GrantState)
@pytest.mark.parametrize("facts", [SINGLE_USE, RESEND_SAFE, TokenFacts()], ids=["single use", "resend safe", "unknown"])
def test_outcomes_that_mean_the_same_in_every_state(state: GrantState, facts: TokenFacts) -> None:
    """Tokens are always stored, our own faults and throttling hand the grant back, nothing spent postpones it."""
    grant = replace(GRANT, state=state)
    later = ANSWERED + backoff(1, DRAW)

    stored = settled(Rotated(tokens=TOKENS), grant, facts)

    assert isinstance(stored, StoreTokens)
    assert stored.tokens is TOKENS
    assert settled(MISCONFIGURED, grant, facts) == HandBack(
        cause=MISCONFIGURED.cause, if_again=later + timedelta(minutes=1)
    )
    canary = replace(grant, is_canary=True)
    assert settled(MISCONFIGURED, canary, facts) == HandBack(cause=MISCONFIGURED.cause)
    assert settled(THROTTLED, grant, facts) == HandBack(cause=THROTTLED.cause)
    assert settled(NOT_SENT, grant, facts) == Postpone(cause=NOT_SENT.cause, rotate_at=later)
    assert settled(REFUSED, grant, facts) == Postpone(cause=REFUSED.cause, rotate_at=later)


@pytest.mark.parametrize("state", [state for state in GrantState if state is not GrantState.IN_DOUBT])
def test_strikes_end_a_grant(state: GrantState) -> None:
    """The first invalid_grant is a strike that waits for its interval, the last one asks for the owner."""
    facts = TokenFacts(strikes=3, strike_interval=timedelta(minutes=7))
    next_try = ANSWERED + timedelta(minutes=7)

    for strikes in (0, 1):
        grant = replace(GRANT, state=state, strikes=strikes)
        assert settled(DEAD, grant, facts) == AddStrike(cause=DEAD.cause, rotate_at=next_try)
    for strikes in (2, 3, 9):
        grant = replace(GRANT, state=state, strikes=strikes)
        assert settled(DEAD, grant, facts) == ENDED


@pytest.mark.parametrize("strikes", [1, 2, 9])
def test_a_refusal_before_its_time_is_no_strike(strikes: int) -> None:
    """Whoever asks for a token within a strike's interval neither ends the grant nor brings its next try forward."""
    next_try = ANSWERED + timedelta(minutes=1)
    early = replace(GRANT, strikes=strikes, rotate_at=next_try)

    assert settled(DEAD, early, TokenFacts(strikes=2)) == Postpone(cause=DEAD.cause, rotate_at=next_try)
    assert settled(NOT_SENT, early, TokenFacts(strikes=2)) == Postpone(cause=NOT_SENT.cause, rotate_at=next_try)


def test_one_strike_may_be_enough() -> None:
    """Where a provider's facts say one strike, the first invalid_grant asks for the owner."""
    assert settled(DEAD, GRANT, TokenFacts(strikes=1)) == ENDED


@pytest.mark.parametrize("facts", [SINGLE_USE, TokenFacts()], ids=["single use", "unknown"])
def test_a_refusal_ends_a_doubt_about_a_single_use_token(facts: TokenFacts) -> None:
    """invalid_grant on a doubtful token means that its successor is lost; no strike is waited for, no brake objects."""
    lost = Cause(reason=Reason.ROTATION_REPLY_LOST, status=400, code="invalid_grant")

    assert settled(DEAD, DOUBTFUL, facts) == RequireReconsent(cause=lost)


def test_a_doubt_does_not_explain_a_refusal_where_the_old_token_stays_valid() -> None:
    """Where presenting again is safe, invalid_grant after an unread answer is a strike like any other."""
    next_try = ANSWERED + RESEND_SAFE.strike_interval

    assert settled(DEAD, DOUBTFUL, RESEND_SAFE) == AddStrike(cause=DEAD.cause, rotate_at=next_try)
    assert settled(DEAD, replace(DOUBTFUL, strikes=1), RESEND_SAFE) == ENDED


@pytest.mark.parametrize("state", GrantState)
def test_an_unread_answer_is_a_doubt_in_every_state(state: GrantState) -> None:
    """A single-use token without an answer waits in doubt for its probe just before the access token's end."""
    probe = SENT + HOUR - timedelta(minutes=1)

    assert settled(UNREAD, replace(GRANT, state=state)) == EnterDoubt(cause=UNREAD.cause, rotate_at=probe)


def test_an_unread_probe_says_nothing_until_a_day_has_passed() -> None:
    """A probe that goes unanswered is made again later; only after a day of silence is the owner asked."""
    unread = InDoubt(cause=Cause(reason=Reason.SERVER_ERROR, status=502))
    probed = replace(DOUBTFUL, access_expires_at=SENT)
    silent = replace(probed, doubt_since=ANSWERED - GIVEN_UP_AFTER)
    lost = Cause(reason=Reason.ROTATION_REPLY_LOST, status=502)

    assert settled(unread, probed) == EnterDoubt(cause=unread.cause, rotate_at=ANSWERED + backoff(2, (1 + DRAW) / 2))
    assert settled(unread, silent) == RequireReconsent(cause=lost)


@pytest.mark.parametrize("reason", [Reason.INVALID_SCOPE, Reason.INVALID_REQUEST])
def test_a_fault_that_may_be_the_grants_own_puts_it_off(reason: Reason) -> None:
    """A grant whose own request is refused waits for its next turn, so that it does not stop its client each time."""
    refused = Misconfigured(cause=Cause(reason=reason, status=400))

    assert settled(refused) == Postpone(cause=refused.cause, rotate_at=ANSWERED + backoff(1, DRAW))


def test_a_doubt_goes_on_where_presenting_again_is_safe() -> None:
    """Where the old token stays valid a doubt is never given up, and its waits grow with the presentations."""
    grant = replace(DOUBTFUL, presentations=6)

    assert settled(UNREAD, grant, RESEND_SAFE) == EnterDoubt(cause=UNREAD.cause, rotate_at=ANSWERED + backoff(7, DRAW))
    next_try = ANSWERED + timedelta(hours=1)
    struck = replace(GRANT, strikes=1, rotate_at=next_try)  # and asked for meanwhile
    assert settled(UNREAD, struck, RESEND_SAFE) == EnterDoubt(cause=UNREAD.cause, rotate_at=next_try)


def test_a_grace_runs_from_when_the_request_left() -> None:
    """An answer awaited for 20 s has used up a grace of 10 s: the token is probed late, not presented again soon."""
    facts = TokenFacts(old_token=OldToken.GRACE, reuse_grace=timedelta(seconds=10))
    late = SENT + timedelta(seconds=20)

    decided = decide(UNREAD, grant=GRANT, facts=facts, keep=Keep.ACCESS, issued_at=SENT, now=late, draw=DRAW)

    assert decided == EnterDoubt(cause=UNREAD.cause, rotate_at=SENT + HOUR - timedelta(minutes=1))


def test_a_grace_that_lasts_is_used() -> None:
    """Within the grace the token is presented again soon, counted from the doubt's beginning."""
    facts = TokenFacts(old_token=OldToken.GRACE, reuse_grace=timedelta(seconds=30))
    soon = EnterDoubt(cause=UNREAD.cause, rotate_at=ANSWERED + backoff(1, DRAW) / 2)

    assert settled(UNREAD, GRANT, facts) == soon
    long_ago = replace(DOUBTFUL, presentations=1, doubt_since=SENT - HOUR)
    assert settled(UNREAD, long_ago, facts) == EnterDoubt(
        cause=UNREAD.cause, rotate_at=SENT + HOUR - timedelta(minutes=1)
    )


def test_waits_grow_with_failures() -> None:
    """The failures before this one lengthen the wait."""
    decided = settled(NOT_SENT, replace(GRANT, failures=4))

    assert decided == Postpone(cause=NOT_SENT.cause, rotate_at=ANSWERED + backoff(5, DRAW))


@pytest.mark.parametrize(
    ("outcome", "name", "why"),
    [
        (Rotated(tokens=TOKENS), "rotated", "ok"),
        (DEAD, "dead", "invalid_grant"),
        (MISCONFIGURED, "misconfigured", "invalid_client"),
        (THROTTLED, "throttled", "rate_limited"),
        (NOT_SENT, "unavailable", "connect"),
        (UNREAD, "in_doubt", "timeout"),
    ],
)
def test_outcomes_have_their_metric_labels(outcome: Outcome, name: str, why: str) -> None:
    """The labels are the words of the public contract."""
    assert (label(outcome), reason(outcome)) == (name, why)


@pytest.mark.parametrize(
    ("answered", "fact", "consented", "end"),
    [
        pytest.param(None, None, True, None, id="nothing known"),
        pytest.param(HOUR, None, True, SENT + HOUR, id="as answered"),
        pytest.param(None, timedelta(days=30), True, SENT + timedelta(days=20), id="from consent"),
        pytest.param(HOUR, timedelta(days=30), True, SENT + HOUR, id="the answer is sooner"),
        pytest.param(timedelta(days=90), timedelta(days=30), True, SENT + timedelta(days=20), id="consent is sooner"),
        pytest.param(None, timedelta(days=30), False, None, id="consent unknown"),
        pytest.param(timedelta(0), None, True, None, id="an answer of nothing"),
    ],
)
def test_the_end_of_the_refresh_token(
    answered: timedelta | None, fact: timedelta | None, *, consented: bool, end: datetime | None
) -> None:
    """The sooner of what the answer said, counted from the request, and the limit that runs from consent."""
    stored = store_tokens(
        replace(TOKENS, refresh_lifetime=answered),
        facts=TokenFacts(refresh_lifetime=fact),
        keep=Keep.ACCESS,
        issued_at=SENT,
        consented_at=GRANT.consented_at if consented else None,
        draw=DRAW,
    )

    assert stored.refresh_expires_at == end


def test_lifetimes_count_from_when_the_request_left() -> None:
    """The access token ends its lifetime after the request left, never after the answer was read."""
    stored = settled(Rotated(tokens=TOKENS))

    assert isinstance(stored, StoreTokens)
    assert (stored.issued_at, stored.access_expires_at) == (SENT, SENT + HOUR)
    assert stored.rotate_at == SENT + HOUR * 0.70


@settings(deadline=None)
@given(
    keep=st.sampled_from(Keep),
    access=spans,
    refresh=spans,
    facts=st.builds(TokenFacts, access_lifetime=spans, refresh_lifetime=spans, refresh_idle_timeout=spans),
    draw=draws,
)
def test_no_lifetime_loses_tokens(
    *, keep: Keep, access: timedelta | None, refresh: timedelta | None, facts: TokenFacts, draw: float
) -> None:
    """However absurd the lifetimes in the answer and in the facts, tokens that arrived are stored."""
    tokens = replace(TOKENS, access_lifetime=access, refresh_lifetime=refresh)

    stored = decide(
        Rotated(tokens=tokens), grant=GRANT, facts=facts, keep=keep, issued_at=SENT, now=ANSWERED, draw=draw
    )

    assert isinstance(stored, StoreTokens)
    assert stored.tokens is tokens
    assert SENT < stored.access_expires_at <= SENT + timedelta(days=400)
    assert SENT <= stored.rotate_at <= SENT + timedelta(days=400)
