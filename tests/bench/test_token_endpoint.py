"""The bench's token endpoint: what it accepts, what it counts, and how late it answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.bench.endpoint_process import TokenEndpointProcess
from tests.bench.issuer import Issuer
from tests.bench.token_endpoint import Behaviour
from tests.bench.tokens import access_token, refresh_token


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[TokenEndpointProcess]:
    """Run the endpoint with ten grants."""
    with TokenEndpointProcess(tmp_path, grants=10, expires_in=600) as running:
        yield running


def _refresh(http: httpx.Client, url: str, token: str, timeout: float = 30.0) -> httpx.Response:
    form = {"grant_type": "refresh_token", "refresh_token": token, "client_id": "c"}
    return http.post(f"{url}/token", data=form, timeout=timeout)


def test_a_refresh_token_is_accepted_once(endpoint: TokenEndpointProcess) -> None:
    """The first presentation rotates; a second one of the same token is refused, counted, and changes nothing."""
    with httpx.Client(trust_env=False) as http:
        first = _refresh(http, endpoint.url, refresh_token(3, 0))
        again = _refresh(http, endpoint.url, refresh_token(3, 0))
        newest = _refresh(http, endpoint.url, first.json()["refresh_token"])
    assert first.json() == {
        "access_token": access_token(3, 1),
        "refresh_token": refresh_token(3, 1),
        "token_type": "Bearer",
        "expires_in": 600,
    }
    assert (again.status_code, again.json()) == (400, {"error": "invalid_grant"})
    assert newest.json()["refresh_token"] == refresh_token(3, 2)
    counts = endpoint.counts()
    assert (counts.rotations, counts.double_spends, counts.unknown) == (2, 1, 0)
    assert endpoint.generations().tolist() == [0, 0, 0, 2, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    "token",
    [
        refresh_token(10, 0),  # no such grant
        refresh_token(3, 1),  # never issued
        refresh_token(3, 0)[:-1] + "x",
        access_token(3, 0),
        "rt.3.0",
        "",
    ],
)
def test_a_token_that_was_never_issued_is_refused(token: str) -> None:
    """What is none of ours is neither a rotation nor a double spend."""
    issuer = Issuer(grants=10, expires_in=600)
    assert issuer.present(token.encode()) is None
    assert (issuer.counts.rotations, issuer.counts.double_spends, issuer.counts.unknown) == (0, 0, 1)


def test_the_tail_of_the_answers_is_slow(endpoint: TokenEndpointProcess) -> None:
    """With half of the answers slow, the seeded draws decide which: the same ones each time."""
    slow: list[list[bool]] = []
    with httpx.Client(trust_env=False) as http:
        for _ in range(2):
            endpoint.reset(10, Behaviour(tail_share=0.5, tail_latency=0.3, seed=7))
            slow.append([_took(http, endpoint.url, number) >= 0.3 for number in range(10)])
    assert slow[0] == slow[1]
    assert 0 < sum(slow[0]) < 10


def test_an_idle_connection_is_closed_where_that_is_ordered(endpoint: TokenEndpointProcess) -> None:
    """A request into a connection that is being closed is not read: its token stays unspent."""
    endpoint.reset(10, Behaviour(close_idle_after=60.05, closing_takes=60.0))
    answered: list[httpx.Response] = []

    def ask_now_and_again() -> None:
        with httpx.Client(trust_env=False) as http:
            for number in range(10):
                answered.append(_refresh(http, endpoint.url, refresh_token(number, 0), timeout=2.0))
                time.sleep(0.2)  # idle; a server that is held up begins the close later, and answers once more

    with pytest.raises(httpx.ReadTimeout):
        ask_now_and_again()
    counts = endpoint.counts()
    assert answered
    assert (counts.rotations, counts.unread) == (len(answered), 1)


def _took(http: httpx.Client, url: str, number: int) -> float:
    began = time.monotonic()
    assert _refresh(http, url, refresh_token(number, 0)).status_code == 200
    return time.monotonic() - began
