"""The URL that an owner's browser is sent to, and the PKCE challenge in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.domain.secret import Secret
from worker.oauth.authorization_request import Expected, authorization_url, hints_email, s256
from worker.oauth.client import Client
from worker.oauth.registry import build_registry

VERIFIER = Secret("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")  # RFC 7636 appendix B
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def client(endpoint: str = "https://login.acme.example/authorize", **provider: Any) -> Client:
    """Build a client whose provider has these keys."""
    table = {"authorization_endpoint": endpoint, "token_endpoint": "https://api.acme.example/t", **provider}
    registry = build_registry(
        catalogue={},
        providers={"acme": table},
        clients={"c": {"provider": "acme", "client_id": "abc", "client_secret": "env:S", "scopes": ["a:read", "b+c"]}},
        environment={"S": "hunter2"},
        public_url="https://tokens.example",
    )
    return registry.client("c")


def parameters(url: Secret) -> list[tuple[str, str]]:
    """Return the URL's parameters, decoded as a server decodes them."""
    return parse_qsl(urlsplit(url.reveal()).query, keep_blank_values=True, strict_parsing=True)


def test_the_challenge_is_the_rfcs() -> None:
    """RFC 7636 appendix B: this verifier gives this S256 challenge."""
    assert s256(VERIFIER) == CHALLENGE


def test_a_challenge_is_sent_with_a_verifier_only() -> None:
    """The challenge and its method go along; the verifier itself never does."""
    url = authorization_url(client(pkce="required"), Secret("the state"), VERIFIER)

    assert parameters(url)[-2:] == [("code_challenge", CHALLENGE), ("code_challenge_method", "S256")]
    assert VERIFIER.reveal() not in url.reveal()
    assert "code_challenge" not in authorization_url(client(), Secret("the state"), None).reveal()


def test_the_parameters_are_those_of_rfc_6749() -> None:
    """Section 4.1.1: response_type, client_id, redirect_uri, scope and state, each once, and no secret."""
    url = authorization_url(client(), Secret("s t"), None)

    assert parameters(url) == [
        ("response_type", "code"),
        ("client_id", "abc"),
        ("redirect_uri", "https://tokens.example/oauth/callback"),
        ("scope", "a:read b+c"),
        ("state", "s t"),
    ]
    assert "hunter2" not in url.reveal()


def test_spaces_are_never_written_as_plus() -> None:
    """A space is %20 and a plus is %2B, so that no reading of `+` changes a value."""
    url = authorization_url(client(), Secret("a b+c"), None).reveal()

    assert "+" not in url
    assert "scope=a%3Aread%20b%2Bc" in url
    assert url.endswith("&state=a%20b%2Bc")


def test_scopes_may_be_joined_by_commas_or_left_out() -> None:
    """The provider's separator joins them, and a client without scopes asks for none."""
    commas = client(scope_separator=",")

    assert ("scope", "a:read,b+c") in parameters(authorization_url(commas, Secret("s"), None))
    assert "scope" not in dict(parameters(authorization_url(replace(commas, scopes=()), Secret("s"), None)))


def test_the_endpoints_own_query_is_kept() -> None:
    """RFC 6749 section 3.1: a query component of the endpoint is retained."""
    url = authorization_url(client("https://login.acme.example/a?tenant=x%20y&empty="), Secret("s"), None)

    assert parameters(url)[:3] == [("tenant", "x y"), ("empty", ""), ("response_type", "code")]
    assert url.reveal().startswith("https://login.acme.example/a?tenant=x%20y&empty=&response_type=code&")


def test_parameters_of_the_provider_go_along_but_never_replace_the_state() -> None:
    """Static parameters such as `access_type` are added; the state stays ours."""
    extra = client(authorize_params={"access_type": "offline", "state": "fixed", "code_challenge": "fixed"})

    sent = parameters(authorization_url(extra, Secret("ours"), VERIFIER))

    assert ("access_type", "offline") in sent
    assert [value for name, value in sent if name in {"state", "code_challenge"}] == ["ours", CHALLENGE]


def test_a_provider_may_be_told_whom_we_expect() -> None:
    """`{email}` and `{subject}` are filled in where facts ask for them; an address that nobody knows is left out."""
    hinting = client(authorize_params={"login_hint": "{email}", "for": "{subject}"})
    known = Expected(subject="customer 42", email="ada@example.com")

    told = [parameters(authorization_url(hinting, Secret("s"), None, expected=expected)) for expected in (known, None)]

    assert dict(told[0]) | {"login_hint": "ada@example.com", "for": "customer 42"} == dict(told[0])
    assert not {"login_hint", "for"} & dict(told[1]).keys()
    assert hints_email(hinting)
    assert not hints_email(client(authorize_params={"for": "{subject}"}))


def test_the_url_is_a_secret() -> None:
    """It holds the state, so printing it shows nothing."""
    assert str(authorization_url(client(), Secret("hunter3"), None)) == "***"


@settings(deadline=None)
@given(state=st.text(min_size=1), scopes=st.lists(st.text(min_size=1), max_size=4))
def test_every_value_arrives_as_it_was(state: str, scopes: list[str]) -> None:
    """Whatever is in state and scopes, a server that decodes the query reads exactly that."""
    url = authorization_url(replace(client(), scopes=tuple(scopes)), Secret(state), None)

    sent = dict(parameters(url))
    assert sent["state"] == state
    assert sent.get("scope", "") == " ".join(scopes)
    assert url.reveal().isascii()


@pytest.mark.parametrize("endpoint", ["https://login.acme.example", "https://login.acme.example/", "http://[::1]:9/a"])
def test_the_query_follows_the_path(endpoint: str) -> None:
    """The endpoint's address is kept as configured, whatever its path."""
    assert authorization_url(client(endpoint), Secret("s"), None).reveal().startswith(f"{endpoint}?response_type=code&")
