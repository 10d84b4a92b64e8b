"""What becomes of a delayed answer, and how the next presentation of its token is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.sandbox_application import Clock, world_at
from worker.domain.secret import Secret
from worker.sandbox.authorization_server import AuthorizationServer, open_authorization_server
from worker.sandbox.behaviour import Behaviour, Latency
from worker.sandbox.clients import Client, new_client
from worker.sandbox.issuing import start_family
from worker.sandbox.profiles import ASKARA
from worker.sandbox.refreshing import Handled, RefreshRequest, handle_refresh, settle
from worker.sandbox.token_meaning import Delivery, token_hash

SLOW = Behaviour(latency=Latency(fixed=1.0), reuse_grace=60)


def client_with(behaviour: Behaviour) -> Client:
    """Return a client under some rules."""
    return new_client(
        client_id="us",
        profile=ASKARA,
        name="Us",
        secret=Secret("s"),
        redirect_uris=("http://127.0.0.1:9/",),
        behaviour=behaviour,
    )


def opened(state_path: Path | None = None) -> AuthorizationServer:
    """Open a sandbox whose clock stands still."""
    return open_authorization_server(origin="http://sandbox", state_path=state_path, world=world_at(Clock()))


@pytest.fixture
def server() -> Iterator[AuthorizationServer]:
    """Open a sandbox in memory."""
    sandbox = opened()
    yield sandbox
    sandbox.close()


def first_token(server: AuthorizationServer, client: Client) -> Secret:
    """Start a family and return its refresh token."""
    with server.transaction():
        _, answer = start_family(server, client=client, account="ada", scope="profile", now=server.world.now())
    assert answer.refresh_token is not None
    return answer.refresh_token


def present(server: AuthorizationServer, client: Client, token: Secret, there: Callable[[], bool]) -> Handled:
    """Present a token over a connection that is open as `there` says."""
    return handle_refresh(server, RefreshRequest(client=client, refresh_token=token), client_is_there=there)


def delivery(server: AuthorizationServer, token: Secret) -> Delivery | None:
    """Return what became of the answer that consumed a token."""
    record = server.families.token_record(token_hash(token))
    assert record is not None
    return record.delivery


class Connection:
    """A connection that is open until the client hangs up."""

    def __init__(self) -> None:
        self.is_open = True

    def __call__(self) -> bool:
        return self.is_open


@pytest.mark.parametrize(("stays", "expected"), [(True, Delivery.DELIVERED), (False, Delivery.LOST)])
def test_a_delayed_answer_is_settled_when_it_is_sent(
    server: AuthorizationServer, stays: bool, expected: Delivery
) -> None:
    """Until its delay is over an answer is in flight; then it is delivered or lost as the client stayed or left."""
    client, connection = client_with(SLOW), Connection()
    token = first_token(server, client)
    handled = present(server, client, token, connection)
    assert (handled.delay, delivery(server, token)) == (1.0, Delivery.IN_FLIGHT)
    connection.is_open = stays

    settle(server, handled, client_is_there=connection)

    assert delivery(server, token) is expected


@pytest.mark.parametrize(("stays", "expected"), [(True, Delivery.DELIVERED), (False, Delivery.LOST)])
def test_an_answer_without_delay_needs_no_settling(
    server: AuthorizationServer, stays: bool, expected: Delivery
) -> None:
    """Without delay the connection's state at the commit decides, in the same transaction."""
    client = client_with(Behaviour())
    token = first_token(server, client)

    handled = present(server, client, token, lambda: stays)

    assert (handled.unsettled, delivery(server, token)) == (None, expected)


@pytest.mark.parametrize(("stays", "double_spends"), [(True, 1), (False, 0)])
def test_a_replay_in_flight_is_judged_by_who_waits(
    server: AuthorizationServer, stays: bool, double_spends: int
) -> None:
    """A replay while the first client waits is a double spend; once it has hung up, it is a try after a lost answer."""
    client, connection = client_with(SLOW), Connection()
    token = first_token(server, client)
    present(server, client, token, connection)
    connection.is_open = stays

    present(server, client, token, Connection())

    report = server.report("us")
    assert (report.double_spends, report.replays_after_withheld_answer) == (double_spends, 1 - double_spends)


def test_what_was_delivered_once_stays_delivered(server: AuthorizationServer) -> None:
    """When the grace has brought the pair to a second presentation, the first one's hang-up changes nothing."""
    client, first, second = client_with(SLOW), Connection(), Connection()
    token = first_token(server, client)
    handled_first = present(server, client, token, first)
    handled_second = present(server, client, token, second)
    settle(server, handled_second, client_is_there=second)
    first.is_open = False

    settle(server, handled_first, client_is_there=first)

    assert delivery(server, token) is Delivery.DELIVERED


def test_what_was_in_flight_when_the_sandbox_died_is_lost(tmp_path: Path) -> None:
    """A state that was left with an answer in flight knows on opening that it never arrived."""
    client, died = client_with(SLOW), opened(tmp_path / "state.db")
    token = first_token(died, client)
    present(died, client, token, Connection())
    died.close()

    server = opened(tmp_path / "state.db")

    assert delivery(server, token) is Delivery.LOST
    server.close()
