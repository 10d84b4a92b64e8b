"""Requests to the token endpoint: encodings, client authentication, and what must not be printed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, unquote, unquote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.domain.secret import Secret
from worker.oauth.client import Client
from worker.oauth.registry import build_registry
from worker.oauth.token_request import (
    TokenRequest,
    code_request,
    introspection_request,
    refresh_request,
    revocation_request,
)

ODD = "p@ss w+rd%&=é:/"  # everything that form-encoding must escape
SECRET = Secret(ODD)
REFRESH_TOKEN = Secret("rt +/=&1")


def client(**provider: Any) -> Client:
    """Build a client whose provider has these keys."""
    table = {
        "authorization_endpoint": "https://login.acme.example/authorize",
        "token_endpoint": "https://api.acme.example/token?tenant=1",
        **provider,
    }
    registry = build_registry(
        catalogue={},
        providers={"acme": table},
        clients={"c": {"provider": "acme", "client_id": "id:1 ü", "client_secret": "env:S"}},
        environment={"S": ODD},
        public_url="https://tokens.example",
    )
    return registry.client("c")


def form(request: TokenRequest) -> dict[str, str]:
    """Decode a form body as a server does."""
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    pairs = parse_qsl(request.content.decode("ascii"), strict_parsing=True, keep_blank_values=True)
    assert len(pairs) == len(dict(pairs))
    return dict(pairs)


def basic(request: TokenRequest) -> tuple[str, str]:
    """Decode HTTP Basic as RFC 6749 section 2.3.1 has a server do."""
    scheme, _, encoded = request.headers["Authorization"].partition(" ")
    assert scheme == "Basic"
    client_id, _, secret = base64.b64decode(encoded, validate=True).decode("ascii").partition(":")
    assert (unquote(client_id), unquote(secret)) == (unquote_plus(client_id), unquote_plus(secret))
    return unquote(client_id), unquote(secret)


def test_basic_form_encodes_both_parts() -> None:
    """Id and secret are form-encoded before they are joined, so that colon, space, plus and percent survive."""
    request = refresh_request(client(client_auth="client_secret_basic"), REFRESH_TOKEN, SECRET)

    encoded = request.headers["Authorization"].removeprefix("Basic ")
    assert base64.b64decode(encoded) == b"id%3A1%20%C3%BC:p%40ss%20w%2Brd%25%26%3D%C3%A9%3A%2F"
    assert form(request) == {"grant_type": "refresh_token", "refresh_token": "rt +/=&1"}


def test_post_puts_the_credentials_into_the_body() -> None:
    """With client_secret_post there is no Authorization header, and the body has both."""
    request = refresh_request(client(client_auth="client_secret_post"), REFRESH_TOKEN, SECRET)

    assert "Authorization" not in request.headers
    assert form(request) == {
        "grant_type": "refresh_token",
        "refresh_token": "rt +/=&1",
        "client_id": "id:1 ü",
        "client_secret": ODD,
    }


def test_a_public_client_names_itself_only() -> None:
    """With `none` the client_id goes along and no secret does."""
    request = refresh_request(client(client_auth="none"), REFRESH_TOKEN, None)

    assert "Authorization" not in request.headers
    assert form(request) == {"grant_type": "refresh_token", "refresh_token": "rt +/=&1", "client_id": "id:1 ü"}


@pytest.mark.parametrize("auth", ["client_secret_basic", "client_secret_post", "none"])
def test_the_code_exchange(auth: str) -> None:
    """The exchange repeats the redirect URI and brings the verifier where there is one."""
    configured = client(client_auth=auth)
    secret = None if auth == "none" else SECRET

    with_pkce = form(code_request(configured, Secret("the code"), Secret("the verifier"), secret))
    without = form(code_request(configured, Secret("the code"), None, secret))

    assert with_pkce == {**without, "code_verifier": "the verifier"}
    assert (
        without.items()
        >= {
            "grant_type": "authorization_code",
            "code": "the code",
            "redirect_uri": "https://tokens.example/oauth/callback",
        }.items()
    )


def test_json_with_basic() -> None:
    """The encoding of the body and the authentication of the client are independent."""
    request = refresh_request(client(token_request_encoding="json"), REFRESH_TOKEN, SECRET)

    assert request.headers["Content-Type"] == "application/json"
    assert basic(request) == ("id:1 ü", ODD)
    assert json.loads(request.content) == {"grant_type": "refresh_token", "refresh_token": "rt +/=&1"}


def test_the_request_goes_to_the_token_endpoint_as_configured() -> None:
    """The address, its query included, is the configured one; no secret is added to it."""
    request = refresh_request(client(), REFRESH_TOKEN, SECRET)

    assert request.url == "https://api.acme.example/token?tenant=1"


@pytest.mark.parametrize("build", [revocation_request, introspection_request])
@pytest.mark.parametrize("encoding", ["form", "json"])
def test_token_tools_are_asked_with_a_form(
    build: Callable[[Client, str, Secret, Secret | None], TokenRequest], encoding: str
) -> None:
    """RFC 7009 and RFC 7662 section 2.1: a form whatever the token endpoint takes, the token under `token`."""
    configured = client(token_request_encoding=encoding, client_auth="client_secret_post")

    request = build(configured, "https://api.acme.example/tool", REFRESH_TOKEN, SECRET)

    assert request.url == "https://api.acme.example/tool"
    assert form(request) == {
        "token": "rt +/=&1",
        "token_type_hint": "refresh_token",
        "client_id": "id:1 ü",
        "client_secret": ODD,
    }
    assert request.secrets == (REFRESH_TOKEN, SECRET)


def test_a_request_knows_its_secrets_and_prints_none() -> None:
    """What went into it is listed, so that answers can be checked for it, and its repr shows none of it."""
    refresh = refresh_request(client(), REFRESH_TOKEN, SECRET)
    exchange = code_request(client(), Secret("the code"), Secret("the verifier"), SECRET)
    public = refresh_request(client(client_auth="none"), REFRESH_TOKEN, None)

    assert refresh.secrets == (REFRESH_TOKEN, SECRET)
    assert exchange.secrets == (Secret("the code"), Secret("the verifier"), SECRET)
    assert public.secrets == (REFRESH_TOKEN,)
    for request in (refresh, exchange, public):
        assert repr(request) == "TokenRequest(url='https://api.acme.example/token?tenant=1', ***)"


@settings(deadline=None)
@given(client_id=st.text(min_size=1), secret=st.text(min_size=1), token=st.text(min_size=1))
def test_every_value_arrives_as_it_was(client_id: str, secret: str, token: str) -> None:
    """Whatever the characters, a server that decodes the request reads exactly what was configured and stored."""
    for auth in ("client_secret_basic", "client_secret_post"):
        configured = replace(client(client_auth=auth), client_id=client_id)
        sent = refresh_request(configured, Secret(token), Secret(secret))
        as_json = refresh_request(
            replace(client(client_auth=auth, token_request_encoding="json"), client_id=client_id),
            Secret(token),
            Secret(secret),
        )
        assert form(sent) == json.loads(as_json.content)
        assert form(sent)["refresh_token"] == token
        if auth == "client_secret_basic":
            assert basic(sent) == basic(as_json) == (client_id, secret)
        else:
            assert (form(sent)["client_id"], form(sent)["client_secret"]) == (client_id, secret)


@pytest.mark.parametrize("encoding", ["form", "json"])
def test_half_a_surrogate_pair_is_presented_as_it_came(encoding: str) -> None:
    """JSON can bring such a token; presenting it must not raise, for that would look like a lost answer."""
    request = refresh_request(client(token_request_encoding=encoding), Secret("rt-\ud800"), SECRET)

    expected = b"refresh_token=rt-%ED%A0%80" if encoding == "form" else rb'"refresh_token": "rt-\ud800"'
    assert expected in request.content
