"""Roles: each may do what the one before it may, and a caller bound to a client sees that client alone."""

from __future__ import annotations

from uuid import UUID

import pytest

from worker.domain.roles import Caller, Role

NOBODY = UUID(int=0)


@pytest.mark.parametrize("needed", Role)
@pytest.mark.parametrize("role", Role)
def test_a_role_may_what_the_ones_before_it_may(role: Role, needed: Role) -> None:
    """The ladder is reader, token, operator, admin, and nothing else decides."""
    ladder = ["reader", "token", "operator", "admin"]

    caller = Caller(id=NOBODY, name=None, role=role, client=None)

    assert caller.may(needed) == (ladder.index(role.value) >= ladder.index(needed.value))


def test_a_bound_caller_sees_its_client_alone() -> None:
    """Who is bound to a client sees that one, whatever the role; who is bound to none sees all."""
    bound = Caller(id=NOBODY, name=None, role=Role.ADMIN, client="ours")
    free = Caller(id=NOBODY, name=None, role=Role.READER, client=None)

    assert [bound.sees(client) for client in ("ours", "theirs", "")] == [True, False, False]
    assert [free.sees(client) for client in ("ours", "theirs", "")] == [True, True, True]
