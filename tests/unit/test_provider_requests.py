"""Requests of the odd providers, built from their facts alone: what is sent, where, and by which method."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.domain.errors import ConfigurationError
from worker.domain.secret import Secret
from worker.oauth.authorization_request import authorization_url
from worker.oauth.captured import captured_from_redirect
from worker.oauth.client import Client
from worker.oauth.registry import build_registry
from worker.oauth.request_values import UnfilledError
from worker.oauth.route import Addresses
from worker.oauth.token_request import (
    Given,
    TokenRequest,
    code_request,
    introspection_request,
    refresh_request,
    revocation_request,
    upgrade_request,
)

SECRET = Secret("s&c t")
TOKEN = Secret("rt +/=&1")
ACCESS = Secret("at-1")
CALLBACK = "https://tokens.example/oauth/callback"


def client(facts: Mapping[str, Any], **keys: Any) -> Client:
    """Build a client of a provider with these facts."""
    table = {"authorization_endpoint": "https://acme.example/a", "token_endpoint": "https://acme.example/t"}
    registry = build_registry(
        catalogue={"acme": {**table, **facts}},
        providers={},
        clients={
            "c": {"provider": "acme", "client_id": "abc", "client_secret": "env:S", "scopes": ["a b", "c"], **keys}
        },
        environment={"S": SECRET.reveal()},
        public_url="https://tokens.example",
    )
    return registry.client("c")


def sent(request: TokenRequest) -> tuple[str, str, dict[str, Any]]:
    """Return method, address without query, and the parameters, wherever they stand."""
    parts = urlsplit(request.url)
    parameters: dict[str, Any] = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    if request.headers.get("Content-Type") == "application/json":
        parameters |= json.loads(request.content)
    elif request.content:
        parameters |= dict(parse_qsl(request.content.decode("ascii"), strict_parsing=True))
    return request.method, f"{parts.scheme}://{parts.netloc}{parts.path}", parameters


POST: Mapping[str, Any] = {"client_auth": "client_secret_post"}
CREDENTIALS = {"client_id": "abc", "client_secret": "s&c t"}
REFRESH = {"grant_type": "refresh_token", "refresh_token": "rt +/=&1"}


@pytest.mark.parametrize(
    ("facts", "method", "url", "parameters"),
    [
        pytest.param(
            {**POST, "token_request_encoding": "query"},
            "POST",
            "https://acme.example/t",
            {**REFRESH, **CREDENTIALS},
            id="query: Basecamp, Gong, Miro",
        ),
        pytest.param(
            {**POST, "refresh": {"method": "GET"}},
            "GET",
            "https://acme.example/t",
            {**REFRESH, **CREDENTIALS},
            id="GET: everything in the query",
        ),
        pytest.param(
            {"refresh": {"endpoint": "https://acme.example/refresh", "omit": ["grant_type"]}},
            "POST",
            "https://acme.example/refresh",
            {"refresh_token": "rt +/=&1"},
            id="another endpoint, no grant_type: Figma",
        ),
        pytest.param(
            {**POST, "refresh": {"params": {"type": "refresh"}, "omit": ["grant_type"]}},
            "POST",
            "https://acme.example/t",
            {"refresh_token": "rt +/=&1", "type": "refresh", **CREDENTIALS},
            id="type in place of grant_type: Basecamp",
        ),
        pytest.param(
            {**POST, "refresh": {"rename": {"client_id": "client_key", "refresh_token": "token"}}},
            "POST",
            "https://acme.example/t",
            {"grant_type": "refresh_token", "token": "rt +/=&1", "client_key": "abc", "client_secret": "s&c t"},
            id="renamed: TikTok",
        ),
        pytest.param(
            {"refresh": {"params": {"scope": "{scope}", "redirect_uri": "{redirect_uri}"}}},
            "POST",
            "https://acme.example/t",
            {**REFRESH, "scope": "a b c", "redirect_uri": CALLBACK},
            id="scope and redirect URI repeated: Microsoft, GitLab",
        ),
        pytest.param(
            {"scope_separator": ",", "refresh": {"params": {"scope": "{scope}"}}},
            "POST",
            "https://acme.example/t",
            {**REFRESH, "scope": "a b,c"},
            id="scope joined by commas",
        ),
        pytest.param(
            {
                **POST,
                "style": "token_exchange",
                "refresh": {
                    "method": "GET",
                    "omit": ["refresh_token"],
                    "params": {"grant_type": "fb_exchange_token", "fb_exchange_token": "{access_token}"},
                },
            },
            "GET",
            "https://acme.example/t",
            {"grant_type": "fb_exchange_token", "fb_exchange_token": "rt +/=&1", **CREDENTIALS},
            id="the access token itself: Facebook",
        ),
        pytest.param(
            {"client_auth": "none", "client_id_in_body": False},
            "POST",
            "https://acme.example/t",
            REFRESH,
            id="no credentials at all: Instagram",
        ),
        pytest.param(
            {"client_id_in_body": True},
            "POST",
            "https://acme.example/t",
            {**REFRESH, "client_id": "abc"},
            id="Basic and client_id: Spotify with PKCE",
        ),
        pytest.param(
            {**POST, "refresh": {"client_auth": "none", "omit": ["grant_type"]}},
            "POST",
            "https://acme.example/t",
            {"refresh_token": "rt +/=&1", "client_id": "abc"},
            id="no secret for this step: Clover",
        ),
        pytest.param(
            {**POST, "token_request_encoding": "json", "refresh": {"params": {"expires_in": 1800, "short": True}}},
            "POST",
            "https://acme.example/t",
            {**REFRESH, **CREDENTIALS, "expires_in": 1800, "short": True},
            id="JSON keeps numbers and truth values",
        ),
        pytest.param(
            {"refresh": {"params": {"expires_in": 1800, "short": True}}},
            "POST",
            "https://acme.example/t",
            {**REFRESH, "expires_in": "1800", "short": "true"},
            id="a form writes them",
        ),
        pytest.param(
            {"refresh": {"params": {"grant_type": "x"}, "encoding": "json"}},
            "POST",
            "https://acme.example/t",
            {"grant_type": "x", "refresh_token": "rt +/=&1"},
            id="a built-in parameter replaced, another encoding for this step",
        ),
        pytest.param(
            {"refresh": {"endpoint": "https://acme.example/t?refresh="}, **POST, "token_request_encoding": "query"},
            "POST",
            "https://acme.example/t",
            {"refresh": "", **REFRESH, **CREDENTIALS},
            id="a query of the endpoint's own: Dropbox Sign",
        ),
    ],
)
def test_a_refresh_by_the_facts(facts: Mapping[str, Any], method: str, url: str, parameters: dict[str, Any]) -> None:
    """Method, address and parameters are the provider's, whatever they are, and nothing else goes along."""
    request = refresh_request(client(facts), TOKEN, SECRET)

    assert sent(request) == (method, url, parameters)
    assert request.endpoint.partition("?")[0] == url


def test_a_query_has_no_plus_for_a_space() -> None:
    """RFC 3986: a space is %20 there; a body in JSON or none has no form's content type."""
    request = refresh_request(client({**POST, "token_request_encoding": "query"}), TOKEN, SECRET)

    assert "refresh_token=rt%20%2B%2F%3D%261" in request.url
    assert (request.content, "Content-Type" in request.headers) == (b"", False)


def test_an_endpoints_flag_without_a_value_is_kept() -> None:
    """`?refresh` stays as it was written."""
    facts = {"refresh": {"endpoint": "https://acme.example/t?refresh", "encoding": "query"}}

    assert refresh_request(client(facts), TOKEN, SECRET).url.startswith("https://acme.example/t?refresh&grant_type=")


def test_the_secret_as_user_name() -> None:
    """Stripe Apps: Basic with the secret and an empty password."""
    request = refresh_request(client({"client_auth": "secret_as_basic_user"}), TOKEN, Secret("sk_live_1"))

    assert base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")) == b"sk_live_1:"
    assert request.secrets == (TOKEN, Secret("sk_live_1"))


def test_headers_of_the_provider_and_of_the_step() -> None:
    """Both go along; client authentication is never replaced by them."""
    facts = {
        "headers": {"User-Agent": "linux:acme:v1", "X-A": "1"},
        "refresh": {"headers": {"X-A": "2", "Authorization": "none"}},
    }
    request = refresh_request(client(facts), TOKEN, SECRET)

    assert (request.headers["User-Agent"], request.headers["X-A"]) == ("linux:acme:v1", "2")
    assert request.headers["Authorization"].startswith("Basic ")


def test_a_token_that_would_end_a_header_is_not_sent() -> None:
    """Where a header repeats a token, one with a line break is an incomplete request and no second header."""
    facts = {"client_auth": "none", "refresh": {"headers": {"Authorization": "Bearer {refresh_token}"}}}

    assert refresh_request(client(facts), ACCESS, None).headers["Authorization"] == "Bearer at-1"
    with pytest.raises(UnfilledError, match="refresh_token"):
        refresh_request(client(facts), Secret("a\r\nX: b"), None)


def test_the_access_token_beside_the_refresh_token() -> None:
    """OneLogin wants both; without one the request is incomplete and is not sent."""
    configured = client({"refresh": {"params": {"access_token": "{access_token}"}}})

    request = refresh_request(configured, TOKEN, SECRET, Given(access_token=ACCESS))
    assert sent(request)[2] == {**REFRESH, "access_token": "at-1"}
    assert set(request.secrets) == {TOKEN, ACCESS, SECRET}
    with pytest.raises(UnfilledError, match=r"nothing fills in \{access_token\} of refresh\.params\.access_token"):
        refresh_request(configured, TOKEN, SECRET)


def test_an_empty_scope_is_left_out() -> None:
    """A client without scopes sends no empty parameter."""
    configured = client({"refresh": {"params": {"scope": "{scope}"}}}, scopes=[])

    assert sent(refresh_request(configured, TOKEN, SECRET))[2] == REFRESH


def test_the_code_exchange_by_the_facts() -> None:
    """Renamed code, replaced redirect URI (eBay's RuName), another encoding."""
    facts = {
        "placeholders": {"ru_name": {}},
        "code": {"rename": {"code": "auth_code"}, "params": {"redirect_uri": "{ru_name}"}, "encoding": "json"},
    }
    configured = client(facts, placeholders={"ru_name": "Acme-Acme-PRD"})

    assert sent(code_request(configured, Secret("c-1"), Secret("v-1"), SECRET)) == (
        "POST",
        "https://acme.example/t",
        {
            "grant_type": "authorization_code",
            "auth_code": "c-1",
            "redirect_uri": "Acme-Acme-PRD",
            "code_verifier": "v-1",
        },
    )


def test_the_second_exchange() -> None:
    """Instagram: the short-lived token is exchanged by GET, with the secret and without client_id."""
    facts = {
        **POST,
        "style": "token_exchange",
        "upgrade": {
            "endpoint": "https://graph.acme.example/access_token",
            "method": "GET",
            "omit": ["client_id"],
            "params": {"grant_type": "ig_exchange_token", "access_token": "{access_token}"},
        },
    }
    configured = client(facts)
    step = configured.provider.upgrade
    assert step is not None

    assert sent(upgrade_request(configured, step, ACCESS, SECRET)) == (
        "GET",
        "https://graph.acme.example/access_token",
        {"grant_type": "ig_exchange_token", "access_token": "at-1", "client_secret": "s&c t"},
    )


def test_revocation_by_the_facts() -> None:
    """HubSpot deletes an address with the token in it; Dropbox takes the access token in a header."""
    hubspot = client(
        {
            "revocation_endpoint": "https://acme.example/tokens/{refresh_token}",
            "revoke": {"method": "DELETE", "client_auth": "none", "omit": ["token", "token_type_hint", "client_id"]},
        }
    )
    url = hubspot.provider.revocation_endpoint or ""
    deleted = revocation_request(hubspot, url, TOKEN, None)
    dropbox = client(
        {
            "client_auth": "none",
            "revoke": {
                "omit": ["token", "token_type_hint", "client_id"],
                "headers": {"Authorization": "Bearer {access_token}"},
            },
        }
    )
    given_back = revocation_request(dropbox, "https://acme.example/r", TOKEN, None, Given(access_token=ACCESS))

    assert (deleted.method, deleted.url) == ("DELETE", "https://acme.example/tokens/rt%20%2B%2F%3D%261")
    assert repr(deleted) == "TokenRequest(url='https://acme.example/tokens/{refresh_token}', ***)"
    assert (given_back.headers["Authorization"], given_back.content) == ("Bearer at-1", b"")
    assert sent(introspection_request(dropbox, "https://acme.example/i", TOKEN, None))[2]["token"] == TOKEN.reveal()


ZOHO: Mapping[str, Any] = {
    "token_endpoint": "https://{accounts_host}/oauth/v2/token",
    "placeholders": {
        "accounts_host": {
            "source": "redirect",
            "field": "accounts-server",
            "pattern": r"(?:https://)?(accounts\.zoho\.(?:com|eu|in|jp|com\.au))/?",
            "default": "accounts.zoho.com",
        }
    },
    "redirect": {"capture": {"location": "location"}},
}


@pytest.mark.parametrize(
    ("parameters", "captured", "host"),
    [
        ({"accounts-server": "https://accounts.zoho.eu"}, {"accounts_host": "accounts.zoho.eu"}, "accounts.zoho.eu"),
        (
            {"accounts-server": "accounts.zoho.in/", "location": "in"},
            {"accounts_host": "accounts.zoho.in", "location": "in"},
            "accounts.zoho.in",
        ),
        ({}, {}, "accounts.zoho.com"),
        ({"accounts-server": "https://accounts.zoho.eu.evil.example"}, {}, "accounts.zoho.com"),
        ({"accounts-server": "https://evil.example/accounts.zoho.eu"}, {}, "accounts.zoho.com"),
        ({"accounts-server": "https://accounts.zoho.eu\n"}, {}, "accounts.zoho.com"),
        ({"accounts-server": "https://accounts.zoho..eu"}, {}, "accounts.zoho.com"),
        ({"location": "x" * 3000}, {}, "accounts.zoho.com"),
        ({"location": "the-code", "code": "the-code"}, {}, "accounts.zoho.com"),
    ],
)
def test_the_redirect_chooses_among_the_providers_own_hosts(
    parameters: Mapping[str, str], captured: Mapping[str, str], host: str
) -> None:
    """Zoho names its data centre on the redirect; what its pattern does not know changes nothing."""
    configured = client(ZOHO)
    found = captured_from_redirect(configured.provider, parameters)

    assert found == captured
    request = code_request(configured, Secret("c-1"), None, SECRET, Given(captured=found))
    assert request.url == f"https://{host}/oauth/v2/token"


def test_the_operators_word_counts_before_the_redirects() -> None:
    """A data centre that the client's configuration names is not changed by a browser."""
    pinned = client(ZOHO, placeholders={"accounts_host": "accounts.zoho.eu"})

    given = Given(captured={"accounts_host": "accounts.zoho.in"})
    assert refresh_request(pinned, TOKEN, SECRET, given).url == "https://accounts.zoho.eu/oauth/v2/token"


def test_a_captured_host_that_no_longer_fits_is_not_used() -> None:
    """What was stored under another configuration, or changed in the database, leads nowhere else."""
    bare = {**ZOHO, "placeholders": {"accounts_host": {"source": "answer", "pattern": "[a-z.]+"}}}
    for value in ("evil.example/x", "evil.example?x", "user@evil.example", "a..b"):
        with pytest.raises(UnfilledError, match="accounts_host"):
            refresh_request(client(bare), TOKEN, SECRET, Given(captured={"accounts_host": value}))


def test_an_authorization_url_by_the_facts() -> None:
    """Renamed, left out, replaced, with a plus for a space; state and challenge stay ours."""
    facts = {
        "authorization_endpoint": "https://{login}.acme.example/a",
        "placeholders": {"login": {"default": "www"}},
        "authorize": {
            "rename": {"client_id": "client_key", "scope": "user_scope"},
            "omit": ["response_type"],
            "params": {"type": "web_server", "state": "fixed", "expiring": 1},
            "space_encoding": "+",
        },
    }
    url = authorization_url(client(facts), Secret("s t"), Secret("v"))

    assert url.reveal().startswith("https://www.acme.example/a?client_key=abc&redirect_uri=")
    assert "user_scope=a+b+c" in url.reveal()
    parameters = parse_qsl(urlsplit(url.reveal()).query)
    assert [value for name, value in parameters if name == "state"] == ["s t"]
    assert {"type": "web_server", "expiring": "1", "code_challenge_method": "S256"}.items() <= dict(parameters).items()
    assert "response_type" not in dict(parameters)


def test_no_authorization_url_without_an_endpoint() -> None:
    """Where nobody knows it, grants are adopted, and /connect says so."""
    table = {"token_endpoint": "https://acme.example/t", "unknown": ["authorization_endpoint"]}
    registry = build_registry(
        catalogue={"acme": table},
        providers={},
        clients={"c": {"provider": "acme", "client_id": "abc", "client_secret": "env:S"}},
        environment={"S": "s"},
        public_url="https://tokens.example",
    )
    with pytest.raises(ConfigurationError, match="has no authorization_endpoint: its grants can only be"):
        authorization_url(registry.client("c"), Secret("s"), None)


@pytest.mark.parametrize(
    ("url", "facts", "addresses"),
    [
        ("https://acme.example/t", {}, Addresses.PUBLIC),
        ("http://127.0.0.1:9/t", {}, Addresses.LOOPBACK_TOO),
        ("https://localhost/t", {}, Addresses.LOOPBACK_TOO),
        ("https://10.0.0.7/t", {"allow_private_addresses": True}, Addresses.ANY),
        ("https://keycloak.internal/t", {"allow_private_addresses": True}, Addresses.ANY),
    ],
)
def test_a_request_knows_where_it_may_go(url: str, facts: Mapping[str, Any], addresses: Addresses) -> None:
    """Loopback where the configuration names it, private addresses where it allows them, nothing else."""
    assert refresh_request(client({"token_endpoint": url, **facts}), TOKEN, SECRET).route.addresses is addresses


texts = st.text(st.characters(exclude_categories=()), min_size=1)


@settings(deadline=None)
@given(token=texts, secret=st.text(min_size=1), encoding=st.sampled_from(["form", "json", "query"]))
def test_no_request_prints_what_is_in_it(token: str, secret: str, encoding: str) -> None:
    """Whatever the token and wherever it is put, neither repr nor the endpoint shows it."""
    marked, hidden = f"hunter2{token}", f"hunter3{secret}"
    facts = {**POST, "token_request_encoding": encoding, "revocation_endpoint": "https://acme.example/{refresh_token}"}
    configured = client(facts)
    for request in (
        refresh_request(configured, Secret(marked), Secret(hidden)),
        revocation_request(configured, configured.provider.revocation_endpoint or "", Secret(marked), Secret(hidden)),
    ):
        assert "hunter" not in repr(request)
        assert set(request.secrets) == {Secret(marked), Secret(hidden)}
        assert request.url.isascii()
