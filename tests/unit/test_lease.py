"""Whether a lease will outlive a request, told from monotonic readings and the database's clock."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.claimed_grants import claimed_grant
from worker.oauth.client import Client
from worker.oauth.registry import build_registry
from worker.usecases.rotate import database_instant, lease_covers

CLAIMED = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
TICK = 5000.0  # seconds on this process's monotonic clock, just after the claim

GRANT = claimed_grant(claimed_at=CLAIMED, claimed_tick=TICK, leased_until=CLAIMED + timedelta(seconds=60))


def client(secrets: int = 1, timeout: str = "20s") -> Client:
    """Build a client with so many secrets at a provider with this time limit."""
    provider = {
        "authorization_endpoint": "https://login.acme.example/authorize",
        "token_endpoint": "https://api.acme.example/token",
        "client_auth": "client_secret_post" if secrets else "none",
        "request_timeout": timeout,
    }
    entry = {"provider": "acme", "client_id": "abc", "client_secret": ["env:S"] * secrets}
    registry = build_registry(
        catalogue={},
        providers={"acme": provider},
        clients={"c": entry},
        environment={"S": "s"},
        public_url="http://[::1]",
    )
    return registry.client("c")


@pytest.mark.parametrize(
    ("secrets", "timeout", "passed", "covers"),
    [
        pytest.param(1, "20s", 0.0, True, id="just claimed"),
        pytest.param(1, "20s", 39.999, True, id="just enough left"),
        pytest.param(1, "20s", 40.0, False, id="the request could end with the lease"),
        pytest.param(1, "20s", 59.0, False, id="a second left"),
        pytest.param(1, "20s", 3600.0, False, id="stopped for an hour"),
        pytest.param(2, "20s", 19.999, True, id="two secrets, two requests"),
        pytest.param(2, "20s", 20.0, False, id="the second request could outlive the lease"),
        pytest.param(3, "20s", 0.0, False, id="three secrets fill the whole lease"),
        pytest.param(0, "20s", 39.999, True, id="a public client sends one request"),
        pytest.param(0, "20s", 40.0, False, id="a public client's request could end with the lease"),
        pytest.param(1, "500ms", 59.4, True, id="a short time limit"),
    ],
)
def test_a_lease_must_outlive_every_request_it_may_cost(
    *, secrets: int, timeout: str, passed: float, covers: bool
) -> None:
    """A request leaves only while the lease outlives it and those for the client's further secrets."""
    assert lease_covers(GRANT, client(secrets, timeout), TICK + passed) is covers


@settings(deadline=None)
@given(passed=st.floats(min_value=0, max_value=10**6))
def test_once_too_short_a_lease_never_covers_again(passed: float) -> None:
    """Time only ever takes the cover away, and where there is cover the request ends before the lease."""
    covered = lease_covers(GRANT, client(), TICK + passed)

    assert covered == (CLAIMED + timedelta(seconds=passed) + timedelta(seconds=20) < GRANT.leased_until)
    assert covered or not lease_covers(GRANT, client(), TICK + passed + 1)


def test_monotonic_readings_become_instants_of_the_database() -> None:
    """The wall clock of this machine plays no part: instants are counted from the claim's on the database's clock."""
    elsewhere = replace(GRANT, claimed_at=CLAIMED - timedelta(days=400), claimed_tick=-3.0)

    assert database_instant(GRANT, TICK) == CLAIMED
    assert database_instant(GRANT, TICK + 1.5) == CLAIMED + timedelta(seconds=1.5)
    assert database_instant(elsewhere, -1.0) == CLAIMED - timedelta(days=400) + timedelta(seconds=2)
