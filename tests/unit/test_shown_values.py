"""What commands show of headers and parameters: everything that the catalogue says, and no key."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from worker.commands.shown_values import shown_fact, shown_provider
from worker.oauth.registry import build_registry
from worker.packaged import catalogue_path


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("headers.X-Api-Key", "k-123"),
        ("headers.Ocp-Apim-Subscription-Key", "k-123"),
        ("headers.Authorization", "Bearer k-123"),
        ("refresh.headers.authorization", "Basic azoxMjM="),
        ("headers.Cookie", "session=k-123"),
        ("headers.X-Signature", "{client_id}k-123"),
        ("code.params.api_key", "k-123"),
        ("code.params.apikey", "k-123"),
        ("revoke.params.client_secret", "k-123"),
        ("authorize.params.password", "k-123"),
        ("refresh.params.pin_token", "123"),
    ],
)
def test_a_literal_secret_is_hidden(key: str, value: str) -> None:
    """Whatever proves something is hidden, at whichever step it goes along."""
    assert shown_fact(key, value) == "***"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("headers.Accept", "application/vnd.acme+json; version=3"),
        ("headers.Accept-Language", "de"),
        ("headers.User-Agent", "linux:acme:1.0 (by /u/acme)"),
        ("headers.Notion-Version", "2022-06-28"),
        ("headers.X-GitHub-Api-Version", "2022-11-28"),
        ("headers.Authorization", "Bearer {access_token}"),
        ("headers.client-id", "{client_id}"),
        ("authorize.params.token_access_type", "offline"),
        ("refresh.params.grant_type", "ig_refresh_token"),
        ("code.params.access_token", "{access_token}"),
        ("token_endpoint", "https://acme.example/token"),
        ("answer.access_token", "data.token"),
        ("answer.capture.api_key", "data.key"),
    ],
)
def test_a_fact_is_shown(key: str, value: str) -> None:
    """What a provider's pages say can be held against them."""
    assert shown_fact(key, value) == value


def test_nothing_of_the_catalogue_is_hidden() -> None:
    """The catalogue holds no secret, so all of it is shown."""
    registry = build_registry(
        catalogue=tomllib.loads(catalogue_path().read_text(encoding="utf-8")),
        providers={},
        clients={},
        environment={},
        public_url="https://tokens.example",
    )
    hidden = [name for name, provider in registry.providers.items() if "***" in _values(shown_provider(provider))]

    assert registry.providers
    assert hidden == []


def _values(found: Any) -> list[object]:
    if isinstance(found, dict):
        return [value for inner in found.values() for value in _values(inner)]
    return [value for inner in found for value in _values(inner)] if isinstance(found, list) else [found]
