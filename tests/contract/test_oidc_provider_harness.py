"""The harness around oidc-provider: what Evergrant's proofs against a foreign authorization server stand on."""

from __future__ import annotations

import base64
import hashlib
import time
from dataclasses import replace
from datetime import timedelta
from typing import Final
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.authorization_servers.fixtures import OIDC_PROVIDER_CLIENT
from tests.authorization_servers.oidc_provider import (
    ChildServerError,
    ClientRegistration,
    ConsentWalkError,
    OidcProvider,
    walk_consent,
)
from tests.authorization_servers.plain_client import (
    ask_userinfo,
    authorize_url,
    consent,
    error_of,
    exchange,
    open_http,
    read_tokens,
    refresh,
    revoke,
)
from worker.domain.secret import Secret

pytestmark = [pytest.mark.node, pytest.mark.usefixtures("oidc_provider_installed")]

CLIENT: Final = OIDC_PROVIDER_CLIENT
#: Seconds after the end of its lifetime by which a grant has to be over, on a machine that is busy otherwise.
ENDED_SLACK_S: Final = 8.0


def test_code_flow_through_the_real_forms_gives_tokens(oidc_provider: OidcProvider) -> None:
    """Login and consent lead back to the client with code, state and iss; the tokens are the signed-in owner's."""
    verifier = "a-code-verifier-of-at-least-forty-three-characters"
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    url = authorize_url(oidc_provider, CLIENT, state="as-sent", code_challenge=challenge, code_challenge_method="S256")
    with open_http() as browser:
        callback = walk_consent(browser, url, "owner-of-the-code-flow")

    assert callback.startswith(f"{CLIENT.redirect_uris[0]}?")
    query = parse_qs(urlsplit(callback).query)
    assert (query["state"], query["iss"]) == (["as-sent"], [oidc_provider.issuer])

    tokens = exchange(oidc_provider, CLIENT, callback=callback, code_verifier=verifier)
    assert ask_userinfo(oidc_provider, tokens.access).json() == {"sub": "owner-of-the-code-flow"}


def test_endpoints_are_the_ones_that_discovery_names(oidc_provider: OidcProvider) -> None:
    """What the harness says about the server is what the server says about itself (RFC 8414)."""
    url = f"{oidc_provider.issuer}/.well-known/oauth-authorization-server"
    with open_http() as http:
        found = http.get(url).json()
    assert found["issuer"] == oidc_provider.issuer
    assert found["authorization_endpoint"] == oidc_provider.authorization_endpoint
    assert found["token_endpoint"] == oidc_provider.token_endpoint
    assert found["revocation_endpoint"] == oidc_provider.revocation_endpoint


def test_a_refresh_rotates(oidc_provider: OidcProvider) -> None:
    """Each refresh brings a new refresh token, which refreshes in turn."""
    first = consent(oidc_provider, CLIENT, "owner-who-rotates")
    second = read_tokens(refresh(oidc_provider, CLIENT, first.refresh))
    third = read_tokens(refresh(oidc_provider, CLIENT, second.refresh))
    assert len({first.refresh, second.refresh, third.refresh}) == 3
    assert len({first.access, second.access, third.access}) == 3


def test_a_used_refresh_token_ends_the_whole_grant(oidc_provider: OidcProvider) -> None:
    """Reuse is answered with 400 invalid_grant and takes the newest refresh and access token with it."""
    first = consent(oidc_provider, CLIENT, "owner-whose-token-is-reused")
    newest = read_tokens(refresh(oidc_provider, CLIENT, first.refresh))
    assert ask_userinfo(oidc_provider, newest.access).status_code == 200

    assert error_of(refresh(oidc_provider, CLIENT, first.refresh)) == (400, "invalid_grant")

    assert error_of(refresh(oidc_provider, CLIENT, newest.refresh)) == (400, "invalid_grant")
    assert ask_userinfo(oidc_provider, newest.access).status_code == 401


def test_reuse_in_one_grant_leaves_the_others_alone(oidc_provider: OidcProvider) -> None:
    """Two walks with the same login and sessions of their own are two grants; reuse ends only the one it is in."""
    reused = consent(oidc_provider, CLIENT, "owner-with-two-grants")
    other = consent(oidc_provider, CLIENT, "owner-with-two-grants")
    before = oidc_provider.seen().grants_alive

    read_tokens(refresh(oidc_provider, CLIENT, reused.refresh))
    assert error_of(refresh(oidc_provider, CLIENT, reused.refresh)) == (400, "invalid_grant")

    assert oidc_provider.seen().grants_alive == before - 1
    read_tokens(refresh(oidc_provider, CLIENT, other.refresh))


def test_walks_in_one_session_share_a_grant(oidc_provider: OidcProvider) -> None:
    """The reason for a new httpx.Client per walk: the second walk in a session keeps its owner and its grant."""
    before = oidc_provider.seen().grants_alive
    with open_http() as browser:
        url = authorize_url(oidc_provider, CLIENT)
        callbacks = [walk_consent(browser, url, login) for login in ("owner-who-came-first", "owner-who-came-second")]
    first, second = (exchange(oidc_provider, CLIENT, callback=callback) for callback in callbacks)

    assert ask_userinfo(oidc_provider, second.access).json() == {"sub": "owner-who-came-first"}
    assert oidc_provider.seen().grants_alive == before + 1
    assert first.refresh != second.refresh


def test_a_wrong_secret_is_invalid_client_and_spends_nothing(oidc_provider: OidcProvider) -> None:
    """401 invalid_client counts as a presentation, and the refresh token that came with it still refreshes."""
    tokens = consent(oidc_provider, CLIENT, "owner-of-a-misconfigured-client")
    wrong = replace(CLIENT, client_secret=Secret("not the secret"))
    assert error_of(refresh(oidc_provider, wrong, tokens.refresh)) == (401, "invalid_client")
    assert oidc_provider.seen().times(tokens.refresh) == 1

    read_tokens(refresh(oidc_provider, CLIENT, tokens.refresh))
    assert oidc_provider.seen().times(tokens.refresh) == 2


def test_seen_counts_each_presentation() -> None:
    """A server of one's own counts from nothing: presentations by token, tokens presented again, grants alive."""
    with OidcProvider(clients=[CLIENT]) as server:
        kept = consent(server, CLIENT, "owner-who-stays")
        lost = consent(server, CLIENT, "owner-who-is-lost")
        started = server.seen()
        assert (started.presented, started.presented_more_than_once, started.tokens) == (0, 0, {})
        assert started.grants_alive == 2

        kept_after = read_tokens(refresh(server, CLIENT, kept.refresh))
        lost_after = read_tokens(refresh(server, CLIENT, lost.refresh))
        unknown = Secret("never issued")
        for refused in (lost.refresh, unknown):
            assert error_of(refresh(server, CLIENT, refused)) == (400, "invalid_grant")

        seen = server.seen()
        assert [seen.times(token) for token in (kept.refresh, lost.refresh, unknown)] == [1, 2, 1]
        assert [seen.times(token) for token in (kept_after.refresh, lost_after.refresh)] == [0, 0]
        assert seen.presented == sum(seen.tokens.values()) == 4
        assert seen.presented_more_than_once == 1
        assert seen.grants_alive == 1


def test_a_revoked_grant_is_over() -> None:
    """Giving a refresh token back ends its grant (RFC 7009), and the notice that this brings is in the log."""
    with OidcProvider(clients=[CLIENT]) as server:
        tokens = consent(server, CLIENT, "owner-who-leaves")
        assert revoke(server, CLIENT, tokens.refresh).status_code == 200
        assert server.seen().grants_alive == 0
        assert error_of(refresh(server, CLIENT, tokens.refresh)) == (400, "invalid_grant")
        assert "oidc-provider NOTICE" in server.read_log()


@pytest.mark.slow
def test_no_grant_is_forgotten_among_many() -> None:
    """After a thousand refreshes of another grant a refresh token is still known: the store drops no oldest entry."""
    # Without the scope openid no answer needs a signature, which would be most of the time.
    client = replace(CLIENT, scope="offline_access")
    with OidcProvider(clients=[client]) as server:
        early = consent(server, client, "owner-who-comes-back-late").refresh
        busy = consent(server, client, "owner-who-is-always-there").refresh
        # Two entries for each refresh; oidc-provider's own store keeps at most 2,000.
        for _ in range(1_050):
            busy = read_tokens(refresh(server, client, busy)).refresh
        assert server.seen().grants_alive == 2
        read_tokens(refresh(server, client, early))


def test_options_reach_the_server() -> None:
    """Client authentication in the form, a scope of one's own and the access token's lifetime are as asked for."""
    client = ClientRegistration(
        client_id="posts-its-secret",
        client_secret=Secret("made-up"),
        redirect_uris=("https://tokens.example/oauth/callback",),
        token_endpoint_auth_method="client_secret_post",
        scope="offline_access invoices",
    )
    with OidcProvider(clients=[client], access_token_lifetime=timedelta(seconds=7)) as server:
        tokens = consent(server, client, "owner-of-invoices")
        assert tokens.expires_in == 7
        assert read_tokens(refresh(server, client, tokens.refresh)).expires_in == 7


def test_a_public_client_refreshes_without_a_secret() -> None:
    """A client registered with the method none names itself, and rotates as the others do (RFC 6749 section 2.1)."""
    client = replace(CLIENT, token_endpoint_auth_method="none")
    with OidcProvider(clients=[client]) as server:
        tokens = consent(server, client, "owner-of-an-installed-program")
        assert read_tokens(refresh(server, client, tokens.refresh)).refresh != tokens.refresh


@pytest.mark.slow
@pytest.mark.parametrize(
    ("refresh_token_lifetime", "grant_lifetime"),
    [(timedelta(seconds=2), timedelta(days=1)), (timedelta(days=1), timedelta(seconds=8))],
    ids=["refresh token", "grant"],
)
def test_a_grant_ends_with_its_lifetime(refresh_token_lifetime: timedelta, grant_lifetime: timedelta) -> None:
    """When the refresh token's or the grant's lifetime is over, so is the grant, and a refresh is invalid_grant."""
    with OidcProvider(
        clients=[CLIENT], refresh_token_lifetime=refresh_token_lifetime, grant_lifetime=grant_lifetime
    ) as server:
        tokens = consent(server, CLIENT, "owner-whose-time-is-up")
        lifetime = min(refresh_token_lifetime, grant_lifetime)
        deadline = time.monotonic() + lifetime.total_seconds() + ENDED_SLACK_S
        while server.seen().grants_alive:
            assert time.monotonic() < deadline, "the grant outlived its lifetime"
            time.sleep(0.1)
        assert error_of(refresh(server, CLIENT, tokens.refresh)) == (400, "invalid_grant")


@pytest.mark.parametrize("lifetime", [timedelta(0), timedelta(seconds=-1), timedelta(seconds=1.5)])
def test_a_lifetime_is_whole_seconds(lifetime: timedelta) -> None:
    """A lifetime that oidc-provider cannot count is refused before anything starts, by its name."""
    with pytest.raises(ValueError, match="refresh_token_lifetime"):
        OidcProvider(clients=[CLIENT], refresh_token_lifetime=lifetime)


def test_a_refused_configuration_says_why() -> None:
    """A registration that oidc-provider refuses fails the start with the server's own words, and without the secret."""
    refused = replace(CLIENT, redirect_uris=("not a uri",))
    with pytest.raises(ChildServerError, match="redirect_uris must only contain valid uris") as caught:
        OidcProvider(clients=[refused]).start()
    assert CLIENT.client_secret.reveal() not in str(caught.value)


def test_a_walk_that_meets_an_error_page_says_what_stood_there(oidc_provider: OidcProvider) -> None:
    """An unknown client is told to the owner, not to the redirect_uri, and the walk ends with that page's words."""
    unknown = replace(CLIENT, client_id="registered-nowhere")
    with (
        open_http() as browser,
        pytest.raises(ConsentWalkError, match="invalid_client"),
    ):
        walk_consent(browser, authorize_url(oidc_provider, unknown), "owner-of-nothing")


def test_a_walk_returns_an_error_that_is_sent_to_the_client() -> None:
    """A scope that the client may not ask for comes back to the redirect_uri, as a code would."""
    greedy = replace(CLIENT, scope="openid everything")
    narrow = replace(CLIENT, scope="openid")
    with (
        OidcProvider(clients=[narrow, replace(greedy, client_id="greedy")]) as server,
        open_http() as browser,
    ):
        callback = walk_consent(browser, authorize_url(server, greedy), "owner-who-is-not-asked")
    assert parse_qs(urlsplit(callback).query)["error"] == ["invalid_scope"]


def test_a_failing_with_block_carries_the_log() -> None:
    """What oidc-provider warned of is a note on the exception that left the block; without one it stays unseen."""
    failure = RuntimeError("as a test fails")
    with pytest.raises(RuntimeError, match="as a test fails") as caught, OidcProvider(clients=[CLIENT]):
        raise failure
    assert "devInteractions is enabled" in "".join(caught.value.__notes__)


def test_a_stopped_server_is_not_asked() -> None:
    """After its end a server names no endpoint, and may be started again, without its grants, at another port."""
    server = OidcProvider(clients=[CLIENT])
    with server:
        consent(server, CLIENT, "owner-until-the-end")
    with pytest.raises(RuntimeError, match="is not running"):
        _ = server.token_endpoint
    with server:
        assert server.seen().grants_alive == 0
