"""When a refresh token in doubt is presented again, by each fate of an old token that a provider may document."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.domain.doubt import GIVEN_UP_AFTER, PROBE_MARGIN, GiveUp, PresentAgain, plan_doubt
from worker.domain.facts import OldToken, Rotation, TokenFacts
from worker.domain.schedule import BACKOFF_LONGEST, backoff

SINCE = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)

INVALIDATED = TokenFacts(old_token=OldToken.INVALIDATED)
GRACE_30S = TokenFacts(old_token=OldToken.GRACE, reuse_grace=timedelta(seconds=30))

RESEND_SAFE = {
    "stays valid": TokenFacts(old_token=OldToken.STAYS_VALID),
    "until the new one is used": TokenFacts(old_token=OldToken.UNTIL_NEW_USED),
    "never rotated": TokenFacts(rotation=Rotation.NEVER),
    "asked about first": TokenFacts(old_token=OldToken.INVALIDATED, is_introspected=True),
    "asked about first, fate unknown": TokenFacts(is_introspected=True),
}
SINGLE_USE = {
    "invalidated": INVALIDATED,
    "unknown": TokenFacts(),
    "rotates, fate unknown": TokenFacts(rotation=Rotation.ALWAYS),
    "sometimes rotates, fate unknown": TokenFacts(rotation=Rotation.SOMETIMES),
    "a grace without a length": TokenFacts(old_token=OldToken.GRACE),
    "a grace within the margin": TokenFacts(old_token=OldToken.GRACE, reuse_grace=timedelta(seconds=3)),
    "a grace within the margin, introspected": TokenFacts(
        old_token=OldToken.GRACE, reuse_grace=timedelta(seconds=3), is_introspected=True
    ),
}

draws = st.floats(min_value=0, max_value=1, exclude_max=True)
any_facts = st.builds(
    TokenFacts,
    rotation=st.none() | st.sampled_from(Rotation),
    old_token=st.none() | st.sampled_from(OldToken),
    reuse_grace=st.none() | st.timedeltas(min_value=timedelta(seconds=1), max_value=timedelta(minutes=15)),
    is_introspected=st.booleans(),
)
ends = st.none() | st.timedeltas(min_value=timedelta(hours=-1), max_value=timedelta(days=2)).map(
    lambda end: SINCE + end
)


def plan(
    facts: TokenFacts,
    *,
    after: timedelta = timedelta(0),
    presentations: int = 1,
    ends_in: timedelta | None = None,
    draw: float = 0.0,
) -> PresentAgain | GiveUp:
    """Plan for a doubt that began at SINCE, `after` that, with an access token that ends `ends_in` from then on."""
    now = SINCE + after
    return plan_doubt(
        facts=facts,
        now=now,
        doubt_since=SINCE,
        presentations=presentations,
        access_expires_at=None if ends_in is None else now + ends_in,
        draw=draw,
    )


@pytest.mark.parametrize("presentations", [1, 2, 3, 50, 100_000])
@pytest.mark.parametrize("facts", RESEND_SAFE.values(), ids=RESEND_SAFE.keys())
def test_a_token_that_survives_is_presented_for_ever(facts: TokenFacts, presentations: int) -> None:
    """Where the old token stays good, or is asked about first, its turn comes again with backoff, and for ever."""
    planned = plan(facts, after=timedelta(days=3), presentations=presentations, draw=0.5)

    assert planned == PresentAgain(at=SINCE + timedelta(days=3) + backoff(presentations, 0.5))


@pytest.mark.parametrize("facts", SINGLE_USE.values(), ids=SINGLE_USE.keys())
@pytest.mark.parametrize(
    ("ends_in", "probe_in"),
    [
        pytest.param(timedelta(hours=24), timedelta(hours=24) - PROBE_MARGIN, id="a minute before a long life ends"),
        pytest.param(timedelta(minutes=4), timedelta(minutes=3), id="at four minutes both margins are one minute"),
        pytest.param(timedelta(seconds=40), timedelta(seconds=30), id="with a quarter left of a short life"),
    ],
)
def test_a_single_use_token_is_probed_before_the_access_token_ends(
    facts: TokenFacts, ends_in: timedelta, probe_in: timedelta
) -> None:
    """The access token stays in service as long as it can, and the probe comes just before its end."""
    assert plan(facts, ends_in=ends_in, draw=0.9) == PresentAgain(at=SINCE + probe_in)


@pytest.mark.parametrize("presentations", [1, 2, 3, 100])
@pytest.mark.parametrize("ends_in", [None, timedelta(0), timedelta(hours=-3), timedelta(seconds=1)])
@pytest.mark.parametrize("facts", SINGLE_USE.values(), ids=SINGLE_USE.keys())
def test_a_probe_is_never_made_at_once(facts: TokenFacts, ends_in: timedelta | None, presentations: int) -> None:
    """With no access token left to wait for, and after an unread probe, it waits at least half of the bound."""
    planned = plan(facts, presentations=presentations, ends_in=ends_in, draw=0.5)

    assert planned == PresentAgain(at=SINCE + backoff(presentations, 0.75))


@pytest.mark.parametrize("facts", SINGLE_USE.values(), ids=SINGLE_USE.keys())
def test_a_single_use_token_is_given_up_after_a_day_of_silence(facts: TokenFacts) -> None:
    """Silence ends nothing before a day is over, the access token has ended and a probe was made."""
    given_up = plan(facts, after=GIVEN_UP_AFTER, presentations=2)
    earlier = plan(facts, after=GIVEN_UP_AFTER - SECOND, presentations=2)
    unprobed = plan(facts, after=GIVEN_UP_AFTER, presentations=1)
    served = plan(facts, after=GIVEN_UP_AFTER, presentations=2, ends_in=timedelta(hours=24))

    assert given_up == GiveUp()
    assert all(isinstance(planned, PresentAgain) for planned in (earlier, unprobed, served))


@pytest.mark.parametrize("facts", [GRACE_30S, replace(GRACE_30S, is_introspected=True)], ids=["grace", "introspected"])
@pytest.mark.parametrize("presentations", [1, 2, 3])
def test_within_the_grace_it_is_presented_soon(facts: TokenFacts, presentations: int) -> None:
    """While the grace lasts the token is presented again at half the usual backoff."""
    planned = plan(facts, after=2 * SECOND, presentations=presentations, ends_in=timedelta(hours=1), draw=0.25)

    assert planned == PresentAgain(at=SINCE + 2 * SECOND + backoff(presentations, 0.25) / 2)


@pytest.mark.parametrize(
    ("after", "within"),
    [
        pytest.param(timedelta(seconds=26.499), True, id="just before the margin"),
        pytest.param(timedelta(seconds=26.5), False, id="the resend would fall on the margin"),
        pytest.param(timedelta(seconds=29), False, id="within the margin"),
        pytest.param(timedelta(seconds=30), False, id="at the end"),
        pytest.param(timedelta(hours=1), False, id="long after"),
    ],
)
def test_the_grace_ends_a_margin_early(after: timedelta, *, within: bool) -> None:
    """A resend that could arrive after the grace is not made; a probe before the access token's end is left."""
    hour = timedelta(hours=1)
    soon = PresentAgain(at=SINCE + after + SECOND / 2)
    probe = PresentAgain(at=SINCE + after + hour - PROBE_MARGIN)

    for presentations in (1, 2):
        assert plan(GRACE_30S, after=after, presentations=presentations, ends_in=hour) == (soon if within else probe)


@settings(deadline=None)
@given(
    facts=any_facts,
    after=st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=2)),
    presentations=st.integers(min_value=1, max_value=50),
    access_expires_at=ends,
    draw=draws,
)
def test_no_plan_lies_in_the_past_or_beyond_its_reason(
    *, facts: TokenFacts, after: timedelta, presentations: int, access_expires_at: datetime | None, draw: float
) -> None:
    """A plan always lies ahead, and never beyond the access token's end and the longest backoff."""
    now = SINCE + after
    planned = plan_doubt(
        facts=facts,
        now=now,
        doubt_since=SINCE,
        presentations=presentations,
        access_expires_at=access_expires_at,
        draw=draw,
    )

    if isinstance(planned, GiveUp):
        assert not _may_be_presented_for_ever(facts)
        assert presentations >= 2
        assert after >= GIVEN_UP_AFTER
        return
    assert planned.at > now
    assert planned.at <= max(now + BACKOFF_LONGEST, access_expires_at or now)


@settings(deadline=None)
@given(
    facts=any_facts.filter(lambda facts: not _may_be_presented_for_ever(facts)),
    access_expires_at=ends,
    seed=st.lists(draws, min_size=1),
)
def test_a_doubt_without_answers_ends(facts: TokenFacts, access_expires_at: datetime | None, seed: list[float]) -> None:
    """Never answered, the doubt ends in a day and the access token's life, a few presentations an hour later."""
    now, presentations = SINCE, 1
    for turn in range(2000):
        planned = plan_doubt(
            facts=facts,
            now=now,
            doubt_since=SINCE,
            presentations=presentations,
            access_expires_at=access_expires_at,
            draw=seed[turn % len(seed)],
        )
        if isinstance(planned, GiveUp):
            break
        now, presentations = planned.at, presentations + 1
    else:
        pytest.fail("the doubt never ended")
    assert now <= max(SINCE + GIVEN_UP_AFTER, access_expires_at or SINCE) + BACKOFF_LONGEST


def _may_be_presented_for_ever(facts: TokenFacts) -> bool:
    return facts.is_resend_safe or (facts.is_introspected and facts.old_token is not OldToken.GRACE)
