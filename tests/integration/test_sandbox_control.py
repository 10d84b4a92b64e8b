"""The control API and its Python class: what it takes, what it refuses, what it tells."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.support.sandbox_application import REDIRECT_URI, application
from worker.domain.secret import Secret
from worker.sandbox.control import ControlError, SandboxControl
from worker.sandbox.control_messages import MAX_FAMILIES_AT_ONCE, MAX_GRANTS_AT_ONCE
from worker.sandbox.families import FamilyStatus
from worker.sandbox.misbehaviour import Misbehaviour, Order
from worker.sandbox.profiles import ASKARA
from worker.sandbox.server import RunningSandbox
from worker.sandbox.token_meaning import token_hash


@pytest.fixture(scope="module")
def sandbox() -> Iterator[RunningSandbox]:
    """Run one sandbox for this file; each test registers a client of its own."""
    with RunningSandbox() as running:
        yield running


@pytest.mark.parametrize("authorization", [None, "Bearer wrong", "Basic d3Jvbmc6d3Jvbmc=", "Bearer schlüssel"])
def test_the_control_token_guards_every_path(sandbox: RunningSandbox, authorization: str | None) -> None:
    """Without the control token nothing is told and nothing is done."""
    headers = {} if authorization is None else {b"authorization": authorization.encode()}

    told = httpx.get(sandbox.url + "/control/report", headers=headers)
    done = httpx.post(sandbox.url + "/control/misbehaviours", headers=headers, json={"kind": "stall", "times": 1})

    assert (told.status_code, done.status_code) == (401, 401)
    assert sandbox.control.standing_orders() == []


def test_a_wrong_control_token_is_an_error_that_says_so(sandbox: RunningSandbox) -> None:
    """The class raises what the sandbox said, and never shows the token."""
    with SandboxControl(sandbox.url, Secret("not-the-token")) as control:
        with pytest.raises(ControlError, match="401 send the control token") as raised:
            control.report()
        assert "not-the-token" not in str(raised.value)


def test_seeding_more_than_one_request_takes(sandbox: RunningSandbox) -> None:
    """Thousands of grants are seeded and listed across pages, each account once, each with its current token."""
    count = max(MAX_GRANTS_AT_ONCE, MAX_FAMILIES_AT_ONCE) + 5
    with application(sandbox, ASKARA) as client:
        grants = client.seed(count)
        families = list(sandbox.control.families(client.client_id))
        report = sandbox.control.report(client.client_id)

    assert [grant.account for grant in grants] == [f"account-{number}" for number in range(1, count + 1)]
    assert [family.account for family in families] == [grant.account for grant in grants]
    assert families[-1].token_sha256_prefix == token_hash(grants[-1].refresh_token).hex()[:16]
    assert (report.grants_seeded, report.families[FamilyStatus.ALIVE]) == (count, count)


def test_families_show_rotations_and_the_current_token(sandbox: RunningSandbox) -> None:
    """A family's listing follows its rotations."""
    with application(sandbox, ASKARA) as client:
        token = client.refreshed(client.refreshed(client.seed_one().refresh_token))
        (family,) = sandbox.control.families(client.client_id, status=FamilyStatus.ALIVE)

    assert (family.rotations, family.token_sha256_prefix) == (2, token_hash(token).hex()[:16])


def test_revoking_a_consent_ends_all_its_families(sandbox: RunningSandbox) -> None:
    """An account's consent covers each of its families with this client and nobody else's."""
    with application(sandbox, ASKARA) as client:
        ours = sandbox.control.seed_grants(client.client_id, 1, account_prefix="same")
        ours += sandbox.control.seed_grants(client.client_id, 1, account_prefix="same")
        (theirs,) = sandbox.control.seed_grants(client.client_id, 1, account_prefix="other")

        assert sandbox.control.revoke_consent(client.client_id, ours[0].account) == 2
        assert sandbox.control.revoke_consent(client.client_id, ours[0].account) == 0

        assert [client.refresh(grant.refresh_token).status_code for grant in ours] == [400, 400]
        client.refreshed(theirs.refresh_token)


def test_a_changed_secret_replaces_or_joins_the_old(sandbox: RunningSandbox) -> None:
    """The old secret stops at once, or stays beside the new one when that is asked for."""
    with application(sandbox, ASKARA) as client:
        token = client.seed_one().refresh_token
        sandbox.control.change_secret(client.client_id, Secret("second"), keep_previous=True)
        token = client.refreshed(token)
        sandbox.control.change_secret(client.client_id, Secret("third"))

        refused = client.refresh(token)
        accepted = client.refresh(token, client_secret="third")

    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")
    assert accepted.status_code == 200


def test_what_is_not_there_is_an_error_that_names_it(sandbox: RunningSandbox) -> None:
    """Unknown clients, families and tokens are errors, and so is registering a client twice."""
    control = sandbox.control
    with application(sandbox, ASKARA) as client, pytest.raises(ControlError, match=r"409 .* already registered"):
        control.register_client(
            client_id=client.client_id, client_secret=None, redirect_uris=(REDIRECT_URI,), profile=ASKARA
        )
    with pytest.raises(ControlError, match="404 no client nobody"):
        control.seed_grants("nobody", 1)
    with pytest.raises(ControlError, match="404 no client nobody"):
        control.report("nobody")
    with pytest.raises(ControlError, match="404 no client nobody"):
        control.order(Order(kind=Misbehaviour.STALL, times=1, client_id="nobody"))
    with pytest.raises(ControlError, match="404 there is no family 999999999"):
        control.order(Order(kind=Misbehaviour.STALL, times=1, family_id=999_999_999))
    with pytest.raises(ControlError, match="404 there is no family 999999999"):
        control.revoke_family(999_999_999)
    with pytest.raises(ControlError, match="404 no refresh token"):
        control.refresh_token_record(Secret("made-up"))


@pytest.mark.parametrize(
    ("method", "path", "body", "said"),
    [
        ("POST", "/clients", '{"client_id": "a b"}', "client_id: String should match"),
        ("POST", "/clients", "no json", "Invalid JSON"),
        ("POST", "/misbehaviours", '{"kind": "sulk", "times": 1}', "kind: Input should be"),
        ("POST", "/misbehaviours", '{"kind": "stall"}', "either `times` or `probability`"),
        ("POST", "/misbehaviours", '{"kind": "stall", "times": 1, "colour": "red"}', "colour: Unexpected"),
        ("GET", "/refresh-tokens/abc", "", "64 hex digits"),
    ],
)
def test_a_malformed_control_request_says_what_is_wrong(
    sandbox: RunningSandbox, method: str, path: str, body: str, said: str
) -> None:
    """Bodies that do not fit are 400 and name the field and the rule."""
    answer = sandbox.control._http.request(method, "/control" + path, content=body)

    assert answer.status_code == 400
    assert said in answer.json()["detail"]


@pytest.mark.parametrize("uri", ["/relative", "http://host/path#fragment", "http:"])
def test_a_redirect_uri_must_be_absolute_and_plain(sandbox: RunningSandbox, uri: str) -> None:
    """A client cannot be registered with a redirect URI that RFC 6749 section 3.1.2 forbids."""
    with pytest.raises(ControlError, match=r"400 redirect_uris\.0: .*RFC 6749 section 3\.1\.2"):
        sandbox.control.register_client(
            client_id="odd", client_secret=Secret("s"), redirect_uris=(uri,), profile=ASKARA
        )


def test_a_refused_secret_is_not_repeated(sandbox: RunningSandbox) -> None:
    """An error about a body never shows the body's secret."""
    body = {"client_id": "a", "client_secret": "x" * 201, "redirect_uris": [REDIRECT_URI], "profile": "askara"}

    answer = sandbox.control._http.post("/control/clients", json=body)

    assert answer.status_code == 400
    assert "client_secret" in answer.text
    assert "xxx" not in answer.text


def test_the_clients_are_listed_without_secrets(sandbox: RunningSandbox) -> None:
    """Listing shows each client's rules and nothing of its secret."""
    with application(sandbox, ASKARA) as client:
        answer = sandbox.control._http.get("/control/clients")
        listed = {shown["client_id"]: shown for shown in answer.json()}

        assert listed[client.client_id]["behaviour"]["access_lifetime"] == 86_400
        assert "secret" not in answer.text


def test_the_front_page_and_health_answer(sandbox: RunningSandbox) -> None:
    """The address opened in a browser shows where the endpoints are; /healthz says ok."""
    front = httpx.get(sandbox.url)

    assert sandbox.url + "/askara/oauth2/token" in front.text
    assert httpx.get(sandbox.url + "/healthz").text == "ok\n"
