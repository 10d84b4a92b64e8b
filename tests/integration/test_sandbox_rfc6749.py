"""The RFC 6749 profile's client authentication, error answers, revocation, introspection and metadata."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote_plus

import httpx
import pytest

from tests.support.sandbox_application import Application, Clock, application, world_at
from worker.domain.secret import Secret
from worker.sandbox.behaviour import Behaviour
from worker.sandbox.connection import MAX_BODY_BYTES
from worker.sandbox.families import FamilyStatus, RevokedBecause
from worker.sandbox.profiles import ASKARA, RFC6749, Profile
from worker.sandbox.refusal import ErrorCode
from worker.sandbox.server import RunningSandbox

CLOCK = Clock()


@pytest.fixture(scope="module")
def sandbox() -> Iterator[RunningSandbox]:
    """Run one sandbox for this file; each test registers a client of its own."""
    with RunningSandbox(world=world_at(CLOCK)) as running:
        yield running


@pytest.fixture
def client(sandbox: RunningSandbox) -> Iterator[Application]:
    """Register a client at the RFC 6749 profile."""
    with application(sandbox, RFC6749, Behaviour(refresh_idle_timeout=1000)) as registered:
        yield registered


def post(client: Application, path: str, parameters: dict[str, str], auth: tuple[str, str] | None) -> httpx.Response:
    """Send a form to a path of the profile, with HTTP Basic where credentials are given."""
    url = client.sandbox.url + RFC6749.prefix + path
    return client.http.post(url, data=parameters, auth=auth or httpx.USE_CLIENT_DEFAULT)


def basic(client: Application) -> tuple[str, str]:
    """Return the client's credentials as RFC 6749 section 2.3.1 wants them in HTTP Basic: form-encoded."""
    assert client.client_secret is not None
    return quote_plus(client.client_id), quote_plus(client.client_secret)


def test_basic_and_post_both_authenticate(client: Application) -> None:
    """A client may send its secret in the Authorization header or in the form."""
    token = client.refreshed(client.seed_one().refresh_token)

    answer = post(client, "/token", {"grant_type": "refresh_token", "refresh_token": token.reveal()}, basic(client))

    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("name", ["wrong-secret", "unknown-client", "askara-client"])
def test_a_client_that_proves_nothing_is_invalid_client(client: Application, name: str) -> None:
    """A wrong secret, an unknown client and another profile's client get 401, the challenge and one error code."""
    token = client.seed_one().refresh_token
    with application(client.sandbox, ASKARA) as foreign:
        auth = {
            "wrong-secret": (client.client_id, "wrong"),
            "unknown-client": ("nobody", "wrong"),
            "askara-client": basic(foreign),
        }[name]

        answer = post(client, "/token", {"grant_type": "refresh_token", "refresh_token": token.reveal()}, auth)

    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    assert answer.headers["www-authenticate"].startswith("Basic ")
    assert client.sandbox.control.refresh_token_record(token).presented == 0


def test_askara_refuses_a_wrong_secret_without_a_challenge(sandbox: RunningSandbox) -> None:
    """Askara knows no HTTP Basic: 401 and the error, no challenge."""
    with application(sandbox, ASKARA) as askara:
        answer = askara.ask(askara.token_endpoint, {"grant_type": "refresh_token", "client_secret": "wrong"})

    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    assert "www-authenticate" not in answer.headers


def test_two_authentication_methods_at_once_are_refused(client: Application) -> None:
    """Secret in header and form together is invalid_request (RFC 6749 section 2.3)."""
    answer = post(client, "/token", {"grant_type": "refresh_token", "client_secret": "x"}, basic(client))

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({}, "invalid_request"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": "refresh_token"}, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": ""}, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": "made-up"}, "invalid_grant"),
        ({"grant_type": "authorization_code"}, "invalid_request"),
        ({"grant_type": "authorization_code", "code": "made-up"}, "invalid_grant"),
    ],
)
@pytest.mark.parametrize("profile", [ASKARA, RFC6749], ids=lambda profile: profile.name)
def test_malformed_requests_have_their_error_codes(
    sandbox: RunningSandbox, profile: Profile, parameters: dict[str, str], error: str
) -> None:
    """What is missing or unknown is told by the codes of RFC 6749 section 5.2, and counted by them."""
    with application(sandbox, profile) as either:
        answer = either.ask(either.token_endpoint, parameters)
        report = sandbox.control.report(either.client_id)

    assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert answer.headers["cache-control"] == "no-store"
    assert report.errors == {ErrorCode(error): 1}


def test_each_profile_insists_on_its_content_type(sandbox: RunningSandbox) -> None:
    """A form sent to Askara and JSON sent to the RFC profile are invalid_request."""
    url = sandbox.url
    answers = [
        httpx.post(url + "/askara/oauth2/token", data={"grant_type": "refresh_token"}),
        httpx.post(url + "/rfc6749/token", json={"grant_type": "refresh_token"}),
    ]

    assert [(answer.status_code, answer.json()["error"]) for answer in answers] == [(400, "invalid_request")] * 2


def test_a_repeated_parameter_is_refused(client: Application) -> None:
    """A parameter that is given twice is invalid_request."""
    answer = client.http.post(
        client.token_endpoint,
        content="grant_type=refresh_token&refresh_token=a&refresh_token=b",
        headers={"content-type": "application/x-www-form-urlencoded"},
    )

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert "refresh_token is given more than once" in answer.text


def test_half_a_character_is_refused(sandbox: RunningSandbox) -> None:
    """JSON that spells a lone surrogate is invalid_request, not a server error."""
    answer = httpx.post(
        sandbox.url + "/askara/oauth2/token",
        content=b'{"grant_type": "refresh_token", "client_id": "\\ud800", "refresh_token": "\\udfff"}',
        headers={"content-type": "application/json"},
    )

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_a_body_beyond_reason_is_refused(client: Application) -> None:
    """A request body of more than 64 KiB is 413."""
    answer = client.refresh("x" * MAX_BODY_BYTES)

    assert (answer.status_code, answer.json()["error"]) == (413, "invalid_request")


def test_revoking_a_refresh_token_ends_the_grant(client: Application) -> None:
    """Revocation of any refresh token of a grant, current or consumed, ends all its tokens (RFC 7009 section 2.1)."""
    grant, other = client.seed(2)
    newest = client.refreshed(grant.refresh_token)

    answer = client.ask(client.sandbox.url + "/rfc6749/revoke", {"token": grant.refresh_token.reveal()})

    assert answer.status_code == 200
    assert client.refresh(newest).json()["error"] == "invalid_grant"
    assert client.sandbox.control.account_of(grant.access_token) is None
    (family,) = client.sandbox.control.families(client.client_id, status=FamilyStatus.REVOKED)
    assert family.revoked_because is RevokedBecause.REVOKED_BY_CLIENT
    client.refreshed(other.refresh_token)


def test_revoking_an_access_token_ends_only_itself(client: Application) -> None:
    """A revoked access token stops working; the grant and its other tokens go on."""
    grant = client.seed_one()
    answer = client.refresh(grant.refresh_token).json()

    revoked = post(client, "/revoke", {"token": answer["access_token"]}, basic(client))

    assert revoked.status_code == 200
    assert client.sandbox.control.account_of(Secret(answer["access_token"])) is None
    assert client.sandbox.control.account_of(grant.access_token) == grant.account
    client.refreshed(answer["refresh_token"])


def test_revoking_the_unknown_succeeds_and_the_foreign_is_refused(client: Application) -> None:
    """An unknown token is a success, another client's token is not (RFC 7009 sections 2.1 and 2.2)."""
    with application(client.sandbox, RFC6749) as other:
        foreign = other.seed_one().refresh_token
        assert post(client, "/revoke", {"token": "made-up"}, basic(client)).status_code == 200
        refused = post(client, "/revoke", {"token": foreign.reveal()}, basic(client))
        other.refreshed(foreign)

    assert (refused.status_code, refused.json()["error"]) == (400, "unauthorized_client")


@pytest.mark.parametrize("path", ["/revoke", "/introspect"])
def test_token_tools_need_a_client_and_a_token(client: Application, path: str) -> None:
    """Without credentials it is invalid_client, without a token invalid_request."""
    assert post(client, path, {"token": "x"}, None).status_code == 401
    assert post(client, path, {}, basic(client)).json()["error"] == "invalid_request"


def test_introspection_tells_active_tokens_without_spending(client: Application) -> None:
    """Both kinds of token are described while they are good, and looking does not consume a refresh token."""
    grant = client.seed_one()
    described = [
        post(client, "/introspect", {"token": token.reveal()}, basic(client)).json()
        for token in (grant.refresh_token, grant.access_token)
    ]

    now = int(CLOCK())
    common = {
        "active": True,
        "client_id": client.client_id,
        "username": grant.account,
        "sub": grant.account,
        "scope": "profile organization",
        "iss": client.sandbox.url + "/rfc6749",
        "iat": now,
    }
    assert described[0] == common | {"exp": now + 1000}
    assert described[1].pop("jti")
    assert described[1] == common | {"exp": now + 3600, "token_type": "Bearer"}
    assert client.sandbox.control.refresh_token_record(grant.refresh_token).presented == 0


def test_introspection_tells_nothing_about_other_tokens(client: Application) -> None:
    """Consumed, expired, revoked, made-up and other clients' tokens are all just not active."""
    consumed, idle, revoked = client.seed(3)
    client.refreshed(consumed.refresh_token)
    client.sandbox.control.revoke_family(revoked.family_id)
    with application(client.sandbox, RFC6749) as other:
        foreign = other.seed_one()
        tokens = [consumed.refresh_token, revoked.refresh_token, revoked.access_token, Secret("made-up")]
        tokens += [foreign.refresh_token, foreign.access_token]
        answers = [post(client, "/introspect", {"token": token.reveal()}, basic(client)) for token in tokens]
    CLOCK.advance(1000)
    answers.append(post(client, "/introspect", {"token": idle.refresh_token.reveal()}, basic(client)))

    assert [answer.json() for answer in answers] == [{"active": False}] * 7


def test_metadata_names_the_endpoints(client: Application) -> None:
    """The metadata document stands where RFC 8414 puts it and names what really answers."""
    document = client.http.get(client.sandbox.url + "/.well-known/oauth-authorization-server/rfc6749").json()

    assert document["issuer"] == client.sandbox.url + "/rfc6749"
    assert document["token_endpoint"] == client.token_endpoint
    assert document["authorization_response_iss_parameter_supported"] is True
    for endpoint in ("token_endpoint", "revocation_endpoint", "introspection_endpoint"):
        assert client.http.post(document[endpoint]).json()["error"] == "invalid_request"
    assert client.http.get(document["authorization_endpoint"]).status_code == 400


def test_askara_has_none_of_the_token_tools(sandbox: RunningSandbox) -> None:
    """The guide names no revocation, introspection or metadata, so there is none."""
    posts = [httpx.post(sandbox.url + path).status_code for path in ("/askara/revoke", "/askara/introspect")]
    document = httpx.get(sandbox.url + "/.well-known/oauth-authorization-server/askara")

    assert [*posts, document.status_code] == [404, 404, 404]


def test_userinfo_needs_a_bearer_token(sandbox: RunningSandbox) -> None:
    """Without a token the challenge is bare, with a wrong one it says so (RFC 6750 section 3)."""
    bare = httpx.get(sandbox.url + "/userinfo")
    wrong = httpx.get(sandbox.url + "/userinfo", headers={"authorization": "Bearer made.up.token"})

    assert (bare.status_code, bare.headers["www-authenticate"]) == (401, "Bearer")
    assert (wrong.status_code, wrong.headers["www-authenticate"]) == (401, 'Bearer error="invalid_token"')
