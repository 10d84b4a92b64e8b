"""Whether an offered grant is taken, by what is there already."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.adoption import ThereAlready, Verdict, is_shareable, judge
from worker.domain.facts import OldToken, Rotation, TokenFacts
from worker.domain.grant import GrantState

SINCE = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
OURS, ANOTHER = UUID(int=1), UUID(int=2)
LATER = SINCE + timedelta(seconds=1)

accounts = st.none() | st.sampled_from(["17", "18"])
grants = st.builds(
    ThereAlready,
    grant_id=st.just(OURS),
    state=st.sampled_from(GrantState),
    state_since=st.just(SINCE),
    account=accounts,
)
consents = st.none() | st.sampled_from([SINCE - timedelta(days=1), SINCE, LATER])


@given(
    there=grants,
    adopted_as=st.frozensets(st.sampled_from([OURS, ANOTHER])),
    is_shareable=st.booleans(),
    consented_at=consents,
    account=accounts,
    replace=st.booleans(),
)
def test_what_is_alive_is_never_written(
    *,
    there: ThereAlready,
    adopted_as: frozenset[UUID],
    is_shareable: bool,
    consented_at: datetime | None,
    account: str | None,
    replace: bool,
) -> None:
    """Only a dead grant is replaced, on request, by a new token of a later consent for the same account."""
    verdict = judge(
        there=there,
        adopted_as=adopted_as,
        is_shareable=is_shareable,
        consented_at=consented_at,
        account=account,
        replace=replace,
    )

    assert verdict is not Verdict.CREATE
    if verdict is Verdict.REPLACE:
        assert there.state is GrantState.RECONSENT_REQUIRED
        assert replace
        assert OURS not in adopted_as
        assert consented_at == LATER
        assert there.account in {None, account}


@pytest.mark.parametrize(
    ("there", "adopted_as", "shareable", "verdict"),
    [
        (None, set(), False, Verdict.CREATE),
        (None, {ANOTHER}, False, Verdict.TAKEN),
        (None, {ANOTHER}, True, Verdict.CREATE),
        (GrantState.ACTIVE, {OURS}, False, Verdict.SAME),
        (GrantState.ACTIVE, {OURS, ANOTHER}, False, Verdict.SAME),
        (GrantState.ACTIVE, set(), False, Verdict.OTHER_TOKEN),
        (GrantState.ACTIVE, {ANOTHER}, False, Verdict.TAKEN),
        (GrantState.RECONSENT_REQUIRED, {OURS}, False, Verdict.SAME),
        (GrantState.RECONSENT_REQUIRED, set(), False, Verdict.OTHER_TOKEN),
    ],
)
def test_without_replacing(there: GrantState | None, adopted_as: set[UUID], shareable: bool, verdict: Verdict) -> None:
    """A new one is created; what is there stays, and is told apart by whether its token was brought before."""
    found = ThereAlready(grant_id=OURS, state=there, state_since=SINCE, account="17") if there is not None else None

    assert verdict is judge(
        there=found,
        adopted_as=frozenset(adopted_as),
        is_shareable=shareable,
        consented_at=LATER,
        account="17",
        replace=False,
    )


DEAD = GrantState.RECONSENT_REQUIRED


@pytest.mark.parametrize(
    ("state", "consented_at", "account", "verdict"),
    [
        (DEAD, LATER, "17", Verdict.REPLACE),
        (DEAD, LATER, "18", Verdict.OTHER_ACCOUNT),
        (DEAD, LATER, None, Verdict.OTHER_ACCOUNT),
        (DEAD, SINCE, "17", Verdict.NOT_NEWER),
        (DEAD, None, "17", Verdict.NOT_NEWER),
        *((state, LATER, "17", Verdict.OTHER_TOKEN) for state in GrantState if state is not DEAD),
    ],
)
def test_replacing(state: GrantState, consented_at: datetime | None, account: str | None, verdict: Verdict) -> None:
    """A dead grant is replaced where its owner has consented since it died; every other state says no."""
    there = ThereAlready(grant_id=OURS, state=state, state_since=SINCE, account="17")

    assert verdict is judge(
        there=there,
        adopted_as=frozenset(),
        is_shareable=False,
        consented_at=consented_at,
        account=account,
        replace=True,
    )


def test_a_refresh_token_is_shared_only_where_that_takes_nothing_from_anybody() -> None:
    """Unknown facts are the dangerous case: one grant for each refresh token."""
    assert not is_shareable(TokenFacts())
    assert not is_shareable(TokenFacts(rotation=Rotation.ALWAYS, old_token=OldToken.UNTIL_NEW_USED))
    assert is_shareable(TokenFacts(rotation=Rotation.NEVER))
    assert is_shareable(TokenFacts(old_token=OldToken.STAYS_VALID))
    assert is_shareable(TokenFacts(is_refreshed=False))
