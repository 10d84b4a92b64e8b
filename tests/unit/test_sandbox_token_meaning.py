"""What a presented refresh token means, as a pure decision."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.sandbox.behaviour import Behaviour, Latency
from worker.sandbox.token_meaning import (
    Delivery,
    Replay,
    TokenFacts,
    TokenMeaning,
    earliest,
    replay,
    token_meaning,
)

NOW = 1_000_000.0
FRESH = TokenFacts(
    family_id=1,
    client_id="us",
    account="ada",
    scope="profile",
    issued_at=NOW - 100,
    idle_end=None,
    family_end=None,
    revoked_at=None,
    consumed_at=None,
    delivery=None,
    presented=0,
    successor_consumed=False,
    answer_kept=False,
)
CONSUMED = replace(FRESH, consumed_at=NOW - 10, delivery=Delivery.DELIVERED, answer_kept=True)
GRACE = Behaviour(reuse_grace=30)

ends = st.none() | st.floats(min_value=NOW - 1000, max_value=NOW + 1000)
any_facts = st.builds(
    TokenFacts,
    family_id=st.just(1),
    client_id=st.sampled_from(["us", "them"]),
    account=st.just("ada"),
    scope=st.just("profile"),
    issued_at=st.just(NOW - 1000),
    idle_end=ends,
    family_end=ends,
    revoked_at=ends,
    consumed_at=ends,
    delivery=st.sampled_from([None, *Delivery]),
    presented=st.integers(min_value=0, max_value=3),
    successor_consumed=st.booleans(),
    answer_kept=st.booleans(),
)


def meaning(facts: TokenFacts | None, behaviour: Behaviour = GRACE, now: float = NOW) -> TokenMeaning:
    """Decide for the client `us`."""
    return token_meaning(facts, client_id="us", behaviour=behaviour, now=now)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (FRESH, TokenMeaning.FRESH),
        (None, TokenMeaning.UNKNOWN),
        (replace(FRESH, client_id="them"), TokenMeaning.UNKNOWN),
        (replace(FRESH, revoked_at=NOW - 1), TokenMeaning.REVOKED),
        (replace(CONSUMED, revoked_at=NOW - 1), TokenMeaning.REVOKED),
        (replace(FRESH, idle_end=NOW), TokenMeaning.EXPIRED),
        (replace(FRESH, idle_end=NOW + 0.1), TokenMeaning.FRESH),
        (replace(FRESH, family_end=NOW), TokenMeaning.EXPIRED),
        (replace(CONSUMED, family_end=NOW), TokenMeaning.EXPIRED),
        (CONSUMED, TokenMeaning.GRACE),
        (replace(CONSUMED, idle_end=NOW - 1), TokenMeaning.GRACE),
        (replace(CONSUMED, consumed_at=NOW - 30), TokenMeaning.REUSED),
        (replace(CONSUMED, answer_kept=False), TokenMeaning.REUSED),
        (replace(CONSUMED, successor_consumed=True), TokenMeaning.GRACE),
    ],
)
def test_each_state_has_its_meaning(facts: TokenFacts | None, expected: TokenMeaning) -> None:
    """Facts at, just before and just after each border give the meaning that the rules name."""
    assert meaning(facts) is expected


def test_a_grace_that_ends_on_use_ends_with_the_successor() -> None:
    """Once the successor is consumed, such a grace is over whatever the clock says."""
    until_use = Behaviour(reuse_grace=30, grace_ends_on_use=True)

    assert meaning(CONSUMED, until_use) is TokenMeaning.GRACE
    assert meaning(replace(CONSUMED, successor_consumed=True), until_use) is TokenMeaning.REUSED


@given(facts=any_facts, grace=st.floats(min_value=0, max_value=100), ends_on_use=st.booleans())
def test_only_an_unconsumed_token_of_a_living_family_is_fresh(
    facts: TokenFacts, grace: float, ends_on_use: bool
) -> None:
    """Whatever the facts and rules, fresh means ours, unconsumed, unrevoked and in time; and only that is fresh."""
    decided = meaning(facts, Behaviour(reuse_grace=grace, grace_ends_on_use=ends_on_use))

    in_time = all(end is None or end > NOW for end in (facts.idle_end, facts.family_end))
    is_good = facts.client_id == "us" and facts.revoked_at is None and facts.consumed_at is None and in_time
    assert (decided is TokenMeaning.FRESH) is is_good


@given(facts=any_facts)
def test_without_grace_a_consumed_token_is_never_answered(facts: TokenFacts) -> None:
    """With a grace of 0 no consumed token is worth an answer."""
    consumed = replace(facts, consumed_at=NOW)

    assert meaning(consumed, Behaviour(reuse_grace=0)) not in {TokenMeaning.FRESH, TokenMeaning.GRACE}


@pytest.mark.parametrize(
    ("delivery", "expected"),
    [
        (None, None),
        (Delivery.DELIVERED, Replay.DOUBLE_SPEND),
        (Delivery.IN_FLIGHT, Replay.DOUBLE_SPEND),
        (Delivery.WITHHELD, Replay.AFTER_WITHHELD_ANSWER),
        (Delivery.LOST, Replay.AFTER_WITHHELD_ANSWER),
    ],
)
def test_a_replay_is_judged_by_what_became_of_the_answer(delivery: Delivery | None, expected: Replay | None) -> None:
    """Only a client that got its answer, or still waits for it, can double-spend."""
    assert replay(replace(CONSUMED, delivery=delivery)) is expected


def test_the_earliest_end_counts() -> None:
    """None is without end, and of several ends the first one holds."""
    assert earliest(None, None) is None
    assert earliest(None, 5.0) == 5.0
    assert earliest(7.0, 5.0) == 5.0


@given(draw=st.floats(min_value=0, max_value=1, exclude_max=True), share=st.floats(min_value=0, max_value=1))
def test_latency_has_two_values(draw: float, share: float) -> None:
    """A draw below the tail's share takes the tail's seconds, any other the fixed ones."""
    latency = Latency(fixed=1.0, tail_share=share, tail=2.0)

    assert latency.of(draw) == (2.0 if draw < share else 1.0)
