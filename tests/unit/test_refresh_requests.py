"""Refresh requests that are built once for each client: they are what they would be if each were built anew."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.catalogue_contract import CLIENT_SECRET, catalogue, client_of
from worker.domain.secret import Secret
from worker.oauth import refresh_requests
from worker.oauth.client import Client
from worker.oauth.refresh_requests import RefreshRequests
from worker.oauth.request_values import UnfilledError
from worker.oauth.token_request import Given, TokenRequest, refresh_request

NAMES = [name for name in sorted(catalogue()) if client_of(name).provider.facts.is_refreshed]
TOKENS = st.text(st.characters(exclude_categories=()), min_size=1, max_size=60)
CAPTURED = {"host": "eu.example.com", "realm": "9"}

requests = RefreshRequests(dict)
client_of_catalogue = cache(client_of)


def told(request: TokenRequest) -> Mapping[str, Any]:
    """Return all of a request, with its secrets as a set: in which order they stand is of no use."""
    names = ("url", "content", "endpoint", "method", "route")
    secrets = frozenset(secret.reveal() for secret in request.secrets)
    return {name: getattr(request, name) for name in names} | {"headers": dict(request.headers), "secrets": secrets}


def outcome(build: Any, *arguments: Any) -> Mapping[str, Any] | str:
    """Return what is built, or what is missing."""
    try:
        return told(build(*arguments))
    except UnfilledError as error:
        return str(error)


@given(name=st.sampled_from(NAMES), token=TOKENS, access_token=st.none() | TOKENS)
def test_a_request_is_what_it_would_be_if_built_anew(name: str, token: str, access_token: str | None) -> None:
    """For every provider of the catalogue and whatever is in the tokens, what is sent does not depend on the way."""
    client = client_of_catalogue(name)
    given_ = Given(access_token=Secret(access_token) if access_token is not None else None, captured=CAPTURED)
    arguments = client, Secret(token), CLIENT_SECRET, given_

    assert outcome(requests.build, *arguments) == outcome(refresh_request, *arguments)


def test_most_clients_have_their_request_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second refresh of the same client works nothing out again, unless its facts ask for something of the grant."""
    built = count()

    def counted(*arguments: Any) -> TokenRequest:
        next(built)
        return refresh_request(*arguments)

    monkeypatch.setattr(refresh_requests, "refresh_request", counted)
    ours = RefreshRequests(dict)
    for name in NAMES:
        for token in ("one", "two"):
            outcome(ours.build, client_of_catalogue(name), Secret(token), CLIENT_SECRET, Given(captured=CAPTURED))

    assert next(built) < 1.4 * len(NAMES)


def test_a_new_configuration_is_heeded() -> None:
    """A client of the same name with another address gets requests of its own."""
    moved = {**catalogue()["github"], "token_endpoint": "https://a.example/t"}
    first, second = client_of("github", moved), client_of("github")
    given_ = Given()

    urls = [requests.build(client, Secret("t"), CLIENT_SECRET, given_).url for client in (first, second, first)]

    assert urls[0] == urls[2] == "https://a.example/t"
    assert urls[1] != urls[0]


def test_a_second_client_secret_has_its_own_request() -> None:
    """Where a client has two secrets, each presents itself."""
    client: Client = client_of_catalogue("github")
    contents = {requests.build(client, Secret("t"), Secret(text), Given()).content for text in ("one", "two")}

    assert len(contents) == 2
