"""Comparing the account of a new consent with the former one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.account import Account, AccountCheck, ToldAccount, check_account

IN_ANSWER = "answer:athlete.id"
FORMER = Account(id="227615", source=IN_ANSWER)


@pytest.mark.parametrize(
    ("former", "told", "expected"),
    [
        (FORMER, ToldAccount(source=IN_ANSWER, id="227615"), AccountCheck.SAME),
        (FORMER, ToldAccount(source=IN_ANSWER, id="227616"), AccountCheck.ANOTHER),
        (FORMER, ToldAccount(source=IN_ANSWER), AccountCheck.NOT_TOLD),
        (FORMER, ToldAccount(), AccountCheck.UNTOLD),
        (FORMER, ToldAccount(source="id_token:sub", id="another kind of id"), AccountCheck.FIRST),
        (FORMER, ToldAccount(source="id_token:sub"), AccountCheck.UNTOLD),
        (None, ToldAccount(source=IN_ANSWER, id="227615"), AccountCheck.FIRST),
        (None, ToldAccount(source=IN_ANSWER), AccountCheck.UNTOLD),
        (Account(id="227615", source=None), ToldAccount(source=IN_ANSWER, id="227615"), AccountCheck.SAME),
        (Account(id="227615", source=None), ToldAccount(source=IN_ANSWER, id="1"), AccountCheck.ANOTHER),
        (Account(id="227615", source=None), ToldAccount(source=IN_ANSWER), AccountCheck.NOT_TOLD),
    ],
)
def test_an_account_is_compared_where_it_can_be(
    former: Account | None, told: ToldAccount, expected: AccountCheck
) -> None:
    """Ids of the same kind are compared; what is read elsewhere by now is taken anew; silence is no consent."""
    assert check_account(former, told) is expected


_ids = st.text(min_size=1, max_size=8)
_sources = st.none() | st.sampled_from([IN_ANSWER, "id_token:sub"])


@given(_ids, _sources, _ids, st.sampled_from([IN_ANSWER, "id_token:sub"]))
def test_another_id_of_the_same_kind_is_never_accepted(former: str, source: str | None, told: str, now: str) -> None:
    """Whatever the ids are: one that differs from a known and comparable one is refused, and only such a one."""
    found = check_account(Account(id=former, source=source), ToldAccount(source=now, id=told))

    assert found.is_refused == (former != told and source in {None, now})
