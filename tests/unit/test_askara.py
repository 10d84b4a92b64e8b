"""Askara as its guide describes it, from the catalogue that is shipped: the exact URL and the exact bodies."""

from __future__ import annotations

import json
import tomllib
from datetime import timedelta

import pytest

from worker.domain.facts import OldToken, Rotation, TokenFacts
from worker.domain.outcome import Rotated, Tokens
from worker.domain.secret import Secret
from worker.oauth.authorization_request import authorization_url
from worker.oauth.classify import classify
from worker.oauth.client import Client
from worker.oauth.registry import build_registry
from worker.oauth.token_answer import HttpAnswer
from worker.oauth.token_request import code_request, refresh_request
from worker.packaged import catalogue_path

CLIENT_SECRET = Secret("CLIENT_SECRET")


@pytest.fixture
def askara() -> Client:
    """Configure a client at Askara with the guide's placeholders, over the real catalogue."""
    registry = build_registry(
        catalogue=tomllib.loads(catalogue_path().read_text(encoding="utf-8")),
        providers={},
        clients={
            "askara-main": {
                "provider": "askara",
                "client_id": "CLIENT_ID",
                "client_secret": "env:ASKARA_CLIENT_SECRET",
                "redirect_uri": "https://tokens.example/oauth/callback",
                "scopes": ["profile", "organization"],
            }
        },
        environment={"ASKARA_CLIENT_SECRET": CLIENT_SECRET.reveal()},
        public_url="https://elsewhere.example",
    )
    return registry.client("askara-main")


def test_the_authorization_url_is_the_guides(askara: Client) -> None:
    """Step 1: the parameters in the guide's order, the scopes joined by %20, and nothing else."""
    assert authorization_url(askara, Secret("STATE"), None).reveal() == (
        "https://app.askara.loc/authorize"
        "?response_type=code"
        "&client_id=CLIENT_ID"
        "&redirect_uri=https%3A%2F%2Ftokens.example%2Foauth%2Fcallback"
        "&scope=profile%20organization"
        "&state=STATE"
    )
    assert not askara.provider.sends_pkce


def test_the_code_exchange_is_the_guides(askara: Client) -> None:
    """Step 3: a JSON body with these five members and no Authorization header."""
    request = code_request(askara, Secret("CODE"), None, CLIENT_SECRET)

    assert request.url == "https://api.askara.ai/oauth2/token"
    assert request.headers == {"Content-Type": "application/json"}
    assert json.loads(request.content) == {
        "grant_type": "authorization_code",
        "code": "CODE",
        "redirect_uri": "https://tokens.example/oauth/callback",
        "client_id": "CLIENT_ID",
        "client_secret": "CLIENT_SECRET",
    }


def test_the_refresh_is_the_guides(askara: Client) -> None:
    """Step 4: the same endpoint, a JSON body with these four members."""
    request = refresh_request(askara, Secret("REFRESH_TOKEN"), CLIENT_SECRET)

    assert request.url == "https://api.askara.ai/oauth2/token"
    assert request.headers == {"Content-Type": "application/json"}
    assert json.loads(request.content) == {
        "grant_type": "refresh_token",
        "refresh_token": "REFRESH_TOKEN",
        "client_id": "CLIENT_ID",
        "client_secret": "CLIENT_SECRET",
    }


def test_the_guides_answer_is_understood(askara: Client) -> None:
    """The answer of steps 3 and 4 brings both tokens and a day's life."""
    body = b"""{
        "token_type": "Bearer",
        "expires_in": 86400,
        "access_token": "ACCESS_TOKEN",
        "refresh_token": "REFRESH_TOKEN"
    }"""

    outcome = classify(
        HttpAnswer(status=200, headers={"content-type": "application/json"}, body=body),
        facts=askara.provider.facts,
        secrets=(Secret("OLD_REFRESH_TOKEN"), CLIENT_SECRET),
    )

    assert outcome == Rotated(
        tokens=Tokens(
            access_token=Secret("ACCESS_TOKEN"),
            refresh_token=Secret("REFRESH_TOKEN"),
            access_lifetime=timedelta(days=1),
        )
    )


def test_what_the_guide_says_of_its_tokens_is_known_and_nothing_more(askara: Client) -> None:
    """The old refresh token "will not be valid anymore": single use. What the guide does not say stays unknown."""
    assert askara.provider.facts == TokenFacts(
        rotation=Rotation.ALWAYS, old_token=OldToken.INVALIDATED, access_lifetime=timedelta(hours=24)
    )
    assert not askara.provider.facts.is_resend_safe
    assert (askara.provider.pkce, askara.provider.revocation_endpoint, askara.provider.issuer) == (None, None, None)


def test_the_shipped_catalogue_is_valid_and_says_where_its_facts_come_from() -> None:
    """Each provider of the catalogue passes validation and names its sources."""
    catalogue = tomllib.loads(catalogue_path().read_text(encoding="utf-8"))

    built = build_registry(catalogue=catalogue, providers={}, clients={}, environment={}, public_url="http://[::1]")

    assert "askara" in built.providers
    assert [name for name, provider in built.providers.items() if not provider.sources] == []
