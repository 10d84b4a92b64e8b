"""Each ordered misbehaviour over real HTTP: what the client sees, what became of its token, what was counted."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime

import httpx
import pytest

from tests.support.sandbox_application import Application, Clock, application, world_at
from tests.support.waiting import wait_until
from worker.domain.secret import Secret
from worker.sandbox.behaviour import Behaviour
from worker.sandbox.families import FamilyStatus, RevokedBecause
from worker.sandbox.misbehaviour import Misbehaviour, Order, RetryAfterForm
from worker.sandbox.profiles import ASKARA
from worker.sandbox.refusal import ErrorCode
from worker.sandbox.server import RunningSandbox
from worker.sandbox.token_meaning import Delivery

CLOCK = Clock()


@pytest.fixture(scope="module")
def sandbox() -> Iterator[RunningSandbox]:
    """Run one sandbox for this file, whose every draw is 0.5."""
    with RunningSandbox(world=world_at(CLOCK, draws=0.5)) as running:
        yield running


@pytest.fixture
def client(sandbox: RunningSandbox) -> Iterator[Application]:
    """Register a client whose consumed tokens have no grace."""
    with application(sandbox, ASKARA) as registered:
        yield registered


def order(client: Application, kind: Misbehaviour, **details: object) -> None:
    """Order a misbehaviour for the client's next request."""
    client.sandbox.control.order(Order(kind=kind, client_id=client.client_id, times=1, **details))  # type: ignore[arg-type]


def delivery(client: Application, token: Secret) -> Delivery | None:
    """Return what became of the answer that consumed a token."""
    return client.sandbox.control.refresh_token_record(token).delivery


def assert_spent_and_withheld(client: Application, token: Secret) -> None:
    """Insist that the token was rotated away unseen, and that trying again is no double spend but ends the grant."""
    assert delivery(client, token) is Delivery.WITHHELD
    assert client.refresh(token).json()["error"] == "invalid_grant"
    report = client.sandbox.control.report(client.client_id)
    assert (report.rotations, report.replays_after_withheld_answer, report.double_spends) == (1, 1, 0)
    assert report.families[FamilyStatus.REVOKED] == 1


def assert_unspent(client: Application, token: Secret, *, seen_twice: int = 1) -> None:
    """Insist that the token was not consumed: the next refresh rotates it."""
    assert delivery(client, token) is None
    client.refreshed(token)
    report = client.sandbox.control.report(client.client_id)
    assert (report.refreshes_presented, report.rotations, report.double_spends) == (2, 1, 0)
    assert report.presented_more_than_once == seen_twice


def test_a_lost_reply_rotates_and_drops_the_connection(client: Application, caplog: pytest.LogCaptureFixture) -> None:
    """The rotation is done, no byte comes back, the connection ends, and the server logs no error."""
    token = client.seed_one().refresh_token
    order(client, Misbehaviour.LOST_REPLY)

    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        client.refresh(token)

    assert_spent_and_withheld(client, token)
    assert not [record for record in caplog.records if record.name.startswith(("uvicorn", "asyncio"))]


def test_a_cut_reply_ends_in_the_middle_of_its_body(client: Application, caplog: pytest.LogCaptureFixture) -> None:
    """The answer announces its whole length and the connection ends half-way, without an error in the log."""
    token = client.seed_one().refresh_token
    order(client, Misbehaviour.CUT_REPLY)

    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        client.refresh(token)

    assert_spent_and_withheld(client, token)
    assert not [record for record in caplog.records if record.name.startswith(("uvicorn", "asyncio"))]


@pytest.mark.parametrize(("status", "answered"), [(None, 503), (500, 500), (502, 502)])
def test_an_error_before_processing_spends_nothing(client: Application, status: int | None, answered: int) -> None:
    """The client sees the ordered 5xx and may try again."""
    token = client.seed_one().refresh_token
    order(client, Misbehaviour.ERROR_BEFORE, status=status)

    assert client.refresh(token).status_code == answered

    assert_unspent(client, token)


def test_an_error_after_rotating_spends_the_token(client: Application) -> None:
    """The client sees a 500 though its token is gone."""
    token = client.seed_one().refresh_token
    order(client, Misbehaviour.ERROR_AFTER)

    answer = client.refresh(token)

    assert (answer.status_code, answer.json()["error"]) == (500, "server_error")
    assert_spent_and_withheld(client, token)


def test_throttling_names_seconds(client: Application) -> None:
    """429 carries Retry-After in seconds and spends nothing."""
    token = client.seed_one().refresh_token
    order(client, Misbehaviour.THROTTLED, retry_after=17)

    answer = client.refresh(token)

    assert (answer.status_code, answer.headers["retry-after"]) == (429, "17")
    assert_unspent(client, token, seen_twice=0)


def test_throttling_names_a_date(client: Application) -> None:
    """429 carries Retry-After as an HTTP date when ordered so."""
    order(client, Misbehaviour.THROTTLED, retry_after=90, retry_after_form=RetryAfterForm.HTTP_DATE)

    answer = client.refresh(client.seed_one().refresh_token)

    assert answer.headers["retry-after"].endswith(" GMT")
    assert parsedate_to_datetime(answer.headers["retry-after"]).timestamp() == CLOCK() + 90


@pytest.mark.parametrize("status", [200, 502])
def test_an_html_page_spends_nothing_unless_told(client: Application, status: int) -> None:
    """A gateway's page comes with the ordered status, in front of a server that has done nothing."""
    token = client.seed_one().refresh_token
    order(client, Misbehaviour.HTML_PAGE, status=status)

    answer = client.refresh(token)

    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert answer.text.startswith("<!doctype html>")
    assert_unspent(client, token)


def test_an_html_page_after_rotating_spends_the_token(client: Application) -> None:
    """The same page may hide a rotation that is done."""
    token = client.seed_one().refresh_token
    order(client, Misbehaviour.HTML_PAGE, status=502, after_rotating=True)

    assert client.refresh(token).status_code == 502

    assert_spent_and_withheld(client, token)


def test_a_spurious_invalid_grant_spends_nothing(client: Application) -> None:
    """A good token is called invalid_grant once and works the next time."""
    token = client.seed_one().refresh_token
    order(client, Misbehaviour.SPURIOUS_INVALID_GRANT)

    answer = client.refresh(token)

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    assert_unspent(client, token)


def test_a_stall_answers_late_and_blocks_nobody(client: Application) -> None:
    """The answer comes after the ordered seconds, and complete."""
    token = client.seed_one().refresh_token
    order(client, Misbehaviour.STALL, stall=0.5)

    answer = client.refresh(token)

    assert answer.elapsed.total_seconds() >= 0.5
    client.refreshed(answer.json()["refresh_token"])
    assert delivery(client, token) is Delivery.DELIVERED


def test_a_client_that_gives_up_on_a_stall_has_rotated(client: Application) -> None:
    """Whoever hangs up during a stall has spent the token without an answer; trying again is no double spend."""
    token = client.seed_one().refresh_token
    order(client, Misbehaviour.STALL, stall=300)

    with pytest.raises(httpx.ReadTimeout):
        client.refresh(token, timeout=0.3)

    wait_until(lambda: delivery(client, token) is Delivery.LOST, 30, "the stalled answer counts as lost")
    assert client.refresh(token).json()["error"] == "invalid_grant"
    report = client.sandbox.control.report(client.client_id)
    assert (report.replays_after_withheld_answer, report.double_spends) == (1, 0)


def test_trying_again_right_after_giving_up_is_no_double_spend(client: Application) -> None:
    """A retry that comes with the hang-up itself is told apart from two presentations at once."""
    for token in (grant.refresh_token for grant in client.seed(20)):
        order(client, Misbehaviour.STALL, stall=300)
        with pytest.raises(httpx.ReadTimeout):
            client.refresh(token, timeout=0.05)
        client.refresh(token)

    report = client.sandbox.control.report(client.client_id)
    assert (report.replays_after_withheld_answer, report.double_spends) == (20, 0)


def test_a_second_presentation_during_a_stall_is_a_double_spend(client: Application) -> None:
    """While the first client still waits for its answer, presenting the token again counts as a double spend."""
    token = client.seed_one().refresh_token
    order(client, Misbehaviour.STALL, stall=1.0)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.refresh, token)
        wait_until(lambda: delivery(client, token) is Delivery.IN_FLIGHT, 30, "the first answer is in flight")

        assert client.refresh(token).json()["error"] == "invalid_grant"

        assert waiting.result().status_code == 200
    report = client.sandbox.control.report(client.client_id)
    assert (report.double_spends, report.replays_after_withheld_answer) == (1, 0)


def test_truncated_json_is_a_whole_http_message(client: Application) -> None:
    """The body's length is right, and its JSON stops in the middle."""
    token = client.seed_one().refresh_token
    order(client, Misbehaviour.TRUNCATED_JSON)

    answer = client.refresh(token)

    assert (answer.status_code, answer.headers["content-length"]) == (200, str(len(answer.content)))
    with pytest.raises(ValueError):
        answer.json()
    assert_spent_and_withheld(client, token)


def test_an_oversized_body_has_the_tokens_at_its_end(client: Application) -> None:
    """Five megabytes of padding come before the tokens."""
    token = client.seed_one().refresh_token
    order(client, Misbehaviour.OVERSIZED_BODY)

    answer = client.refresh(token)

    assert len(answer.content) > 5 * 1024 * 1024
    assert list(answer.json())[-1] == "refresh_token"
    assert delivery(client, token) is Delivery.WITHHELD


def test_an_omitted_refresh_token_leaves_the_old_one_good(client: Application) -> None:
    """The answer has an access token only, and the old refresh token goes on."""
    token = client.seed_one().refresh_token
    order(client, Misbehaviour.OMITTED_REFRESH_TOKEN)

    answer = client.refresh(token)

    assert list(answer.json()) == ["token_type", "expires_in", "access_token"]
    assert_unspent(client, token)


def test_an_omitted_refresh_token_after_rotating_is_lost(client: Application) -> None:
    """When it was rotated all the same, the new refresh token has reached nobody."""
    token = client.seed_one().refresh_token
    order(client, Misbehaviour.OMITTED_REFRESH_TOKEN, after_rotating=True)

    assert "refresh_token" not in client.refresh(token).json()

    assert_spent_and_withheld(client, token)


def test_an_omitted_expires_in_delivers_the_tokens(client: Application) -> None:
    """Only `expires_in` is missing; the tokens are there."""
    token = client.seed_one().refresh_token
    order(client, Misbehaviour.OMITTED_EXPIRES_IN)

    answer = client.refresh(token).json()

    assert "expires_in" not in answer
    assert delivery(client, token) is Delivery.DELIVERED
    client.refreshed(answer["refresh_token"])


@pytest.mark.parametrize("value", [-1, 0, 10**18, 3600.5, "soon", None])
def test_an_absurd_expires_in_is_answered_as_ordered(client: Application, value: float | str | None) -> None:
    """Whatever was ordered as `expires_in` is what comes."""
    token = client.seed_one().refresh_token
    order(client, Misbehaviour.ABSURD_EXPIRES_IN, expires_in=value)

    answer = client.refresh(token).json()

    assert answer["expires_in"] == value
    assert delivery(client, token) is Delivery.DELIVERED


def test_revoked_consent_ends_the_family_for_good(client: Application) -> None:
    """The answer is invalid_grant, and the family and its access token stay revoked."""
    grant = client.seed_one()
    order(client, Misbehaviour.REVOKED_CONSENT)

    assert client.refresh(grant.refresh_token).json()["error"] == "invalid_grant"

    (family,) = client.sandbox.control.families(client.client_id)
    assert family.revoked_because is RevokedBecause.CONSENT_REVOKED
    assert client.sandbox.control.account_of(grant.access_token) is None


def test_a_wrong_content_type_delivers_the_tokens(client: Application) -> None:
    """The body is the honest answer under a wrong name."""
    token = client.seed_one().refresh_token
    order(client, Misbehaviour.WRONG_CONTENT_TYPE)

    answer = client.refresh(token)

    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert delivery(client, token) is Delivery.DELIVERED
    client.refreshed(answer.json()["refresh_token"])


def test_within_the_grace_a_lost_reply_is_healed(client: Application) -> None:
    """After a lost reply the same token gets its pair inside the grace, and using the old one again then is a fault."""
    client.sandbox.control.change_behaviour(client.client_id, Behaviour(reuse_grace=60))
    token = client.seed_one().refresh_token
    order(client, Misbehaviour.LOST_REPLY)
    with pytest.raises(httpx.RemoteProtocolError):
        client.refresh(token)

    client.refreshed(client.refreshed(token))

    assert delivery(client, token) is Delivery.DELIVERED
    client.refreshed(token)
    report = client.sandbox.control.report(client.client_id)
    assert (report.replays_after_withheld_answer, report.double_spends, report.grace_replays) == (1, 1, 2)


def test_orders_meet_family_then_client_then_everybody(sandbox: RunningSandbox) -> None:
    """One request meets one order: its family's before its client's before everybody's, each in its turn."""
    with application(sandbox, ASKARA) as client:
        first, second = client.seed(2)
        control = sandbox.control
        control.order(Order(kind=Misbehaviour.ERROR_BEFORE, status=501, times=1))
        control.order(Order(kind=Misbehaviour.ERROR_BEFORE, status=502, times=1, client_id=client.client_id))
        control.order(Order(kind=Misbehaviour.ERROR_BEFORE, status=503, times=2, family_id=first.family_id))

        statuses = [client.refresh(grant.refresh_token).status_code for grant in (first, second, first, first, first)]

    assert statuses == [503, 502, 503, 501, 200]
    assert control.standing_orders() == []


def test_an_order_spares_other_clients_and_families(sandbox: RunningSandbox) -> None:
    """An order for one family or client meets nobody else, and can be taken back."""
    with application(sandbox, ASKARA) as client, application(sandbox, ASKARA) as other:
        target, neighbour = client.seed(2)
        order_ids = [
            sandbox.control.order(Order(kind=Misbehaviour.ERROR_BEFORE, times=1, family_id=target.family_id)),
            sandbox.control.order(Order(kind=Misbehaviour.ERROR_BEFORE, times=1, client_id=client.client_id)),
        ]
        other.refreshed(other.seed_one().refresh_token)
        assert sandbox.control.cancel_order(order_ids[1])
        client.refreshed(neighbour.refresh_token)
        assert sandbox.control.cancel_order(order_ids[0])
        assert not sandbox.control.cancel_order(order_ids[0])

        client.refreshed(target.refresh_token)


def test_an_order_by_probability_follows_the_draw(sandbox: RunningSandbox) -> None:
    """With every draw at 0.5, a probability above it always hits, one at or below it never does, and both stand."""
    with application(sandbox, ASKARA) as client:
        token = client.seed_one().refresh_token
        rare = Order(kind=Misbehaviour.ERROR_BEFORE, client_id=client.client_id, probability=0.5)
        frequent = Order(kind=Misbehaviour.THROTTLED, client_id=client.client_id, probability=0.51)
        standing = [sandbox.control.order(rare), sandbox.control.order(frequent)]

        statuses = [client.refresh(token).status_code for _ in range(3)]

        assert statuses == [429, 429, 429]
        assert [sandbox.control.cancel_order(order_id) for order_id in standing] == [True, True]


def test_every_fault_and_error_is_counted(client: Application) -> None:
    """The report names each fault by its kind and each answered error by its code."""
    token = client.seed_one().refresh_token
    for kind in (Misbehaviour.ERROR_BEFORE, Misbehaviour.THROTTLED, Misbehaviour.THROTTLED):
        order(client, kind)
        client.refresh(token)

    report = client.sandbox.control.report(client.client_id)

    assert report.faults == {Misbehaviour.ERROR_BEFORE: 1, Misbehaviour.THROTTLED: 2}
    assert report.errors == {ErrorCode.TEMPORARILY_UNAVAILABLE: 1, ErrorCode.TOO_MANY_REQUESTS: 2}
    metrics = client.http.get(client.sandbox.url + "/metrics").text
    assert f'evergrant_sandbox_faults_total{{client="{client.client_id}",kind="throttled"}} 2.0' in metrics
    assert f'evergrant_sandbox_refresh_presented_total{{client="{client.client_id}"}} 3.0' in metrics
