"""Every provider of the catalogue against what it documents: its requests, its answers, its errors. None is skipped."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.support.catalogue_contract import (
    ACCESS_TOKEN,
    CLIENT_SECRET,
    CODE,
    CODE_VERIFIER,
    DATE,
    REFRESH_TOKEN,
    STATE,
    Exchange,
    built,
    catalogue,
    client_of,
    comparable,
    contract,
    documented,
    written_contracts,
)
from tests.support.scripted_server import ScriptedServer
from worker.domain import schedule
from worker.domain.errors import ConfigurationError
from worker.domain.facts import Keep
from worker.domain.outcome import Outcome, Rotated, Throttled, label, reason
from worker.domain.secret import Secret
from worker.oauth.authorization_request import authorization_url
from worker.oauth.captured import account_in_redirect, captured_from_redirect
from worker.oauth.classify import classify
from worker.oauth.client import Client
from worker.oauth.http_client import create_http_client
from worker.oauth.provider_kinds import Style
from worker.oauth.provider_steps import TokenStep
from worker.oauth.reading import reading_of
from worker.oauth.token_answer import HttpAnswer
from worker.oauth.token_endpoint import TokenEndpoint
from worker.oauth.token_request import Given, code_request, refresh_request, revocation_request, upgrade_request

SENT = (CLIENT_SECRET, CODE, REFRESH_TOKEN, ACCESS_TOKEN)
NAMES = sorted(catalogue())
EACH = pytest.mark.parametrize("name", NAMES)
#: Each error of each provider is a test of its own.
ERRORS = [
    pytest.param(name, place, id=f"{name}: {error.what}")
    for name in NAMES
    if name in written_contracts()
    for place, error in enumerate(contract(name).errors)
]


def verifier(client: Client) -> Secret | None:
    """Return the PKCE secret where the provider takes a challenge."""
    return CODE_VERIFIER if client.provider.sends_pkce else None


def outcome(client: Client, step: TokenStep, answer: HttpAnswer) -> Outcome:
    """Read an answer as the token endpoint does."""
    return classify(answer, facts=client.provider.facts, secrets=SENT, reading=reading_of(client.provider, step))


def success(exchange: Exchange) -> HttpAnswer:
    """Return the documented answer to a request."""
    return HttpAnswer(status=200, headers={"date": DATE}, body=exchange.answer.encode())


def test_every_provider_has_a_contract() -> None:
    """Catalogue and contracts have the same names: nobody adds a provider without showing what it does."""
    assert written_contracts() == set(NAMES)


@EACH
def test_the_contract_covers_what_the_provider_does(name: str) -> None:
    """Each step that a provider has is written down, no step that it does not have is, and so is at least one error."""
    written, provider = contract(name), client_of(name).provider

    assert (written.authorize is None) == (provider.authorization_endpoint is None)
    assert (written.code is None) == (provider.authorization_endpoint is None)
    assert (written.upgrade is None) == (provider.upgrade is None)
    assert (written.refresh is None) == (provider.style is Style.NO_REFRESH)
    assert (written.redirect is None) == (not captured_in_redirect(name))
    assert written.errors


def captured_in_redirect(name: str) -> bool:
    """Tell whether anything but `code` and `state` is taken from a provider's redirect."""
    provider = client_of(name).provider
    filled = [placeholder for placeholder in provider.placeholders.values() if placeholder.source == "redirect"]
    return bool(filled or provider.redirect.capture or provider.redirect.code != "code")


@EACH
def test_the_authorization_request_is_the_documented_one(name: str) -> None:
    """The owner's browser is sent to exactly the documented URL; where there is none, that is said."""
    client, written = client_of(name), contract(name)

    if written.authorize is None:
        with pytest.raises(ConfigurationError, match=f"provider '{name}' has no authorization_endpoint"):
            authorization_url(client, STATE, None)
        return
    url = authorization_url(client, STATE, verifier(client)).reveal()

    assert comparable("GET", url, {}, "") == comparable("GET", written.authorize, {}, "")


@EACH
def test_the_redirect_is_read_as_documented(name: str) -> None:
    """The code is found under its name, and of everything else exactly what is documented is kept."""
    client, written = client_of(name), contract(name)
    plain = {"code": CODE.reveal(), "state": STATE.reveal(), "session_state": "whatever"}
    parameters = plain if written.redirect is None else written.redirect.parameters

    assert parameters[client.provider.redirect.code] == CODE.reveal()
    kept = {} if written.redirect is None else written.redirect.captured
    assert captured_from_redirect(client.provider, parameters) == kept
    account = None if written.redirect is None else written.redirect.account
    assert account_in_redirect(client.provider, parameters) == account


@EACH
def test_the_code_request_is_the_documented_one(name: str) -> None:
    """Method, URL, headers and every encoded parameter of the code exchange are the documented ones."""
    client, written = client_of(name), contract(name)

    if written.code is not None:
        request = code_request(client, CODE, verifier(client), CLIENT_SECRET, Given(captured=written.captured))
        assert built(request) == documented(written.code)
    if written.upgrade is not None:
        step = client.provider.upgrade
        assert step is not None
        assert written.code is not None
        short_lived = Secret(written.code.tokens.access_token)
        assert built(upgrade_request(client, step, short_lived, CLIENT_SECRET)) == documented(written.upgrade)


@EACH
def test_the_refresh_request_is_the_documented_one(name: str) -> None:
    """Method, URL, headers and every encoded parameter of a refresh are the documented ones."""
    client, written = client_of(name), contract(name)
    given = Given(access_token=ACCESS_TOKEN, captured=written.captured)

    if written.refresh is None:
        with pytest.raises(ConfigurationError, match="nothing to refresh"):
            refresh_request(client, REFRESH_TOKEN, CLIENT_SECRET, given)
        return

    assert built(refresh_request(client, REFRESH_TOKEN, CLIENT_SECRET, given)) == documented(written.refresh)


@EACH
def test_the_revocation_is_the_documented_one(name: str) -> None:
    """A grant is revoked at the provider by the documented request: RFC 7009, or what stands in its place."""
    client, written = client_of(name), contract(name)
    url = client.provider.revocation_endpoint

    assert (written.revoke is None) == (url is None)
    if url is not None and written.revoke is not None:
        given = Given(access_token=ACCESS_TOKEN, captured=written.captured)
        assert built(revocation_request(client, url, REFRESH_TOKEN, CLIENT_SECRET, given)) == documented(written.revoke)


@EACH
def test_the_documented_answers_bring_exactly_what_they_hold(name: str) -> None:
    """Tokens, lifetimes, scopes, account and captured values of each documented answer are read, and no more."""
    client, written = client_of(name), contract(name)
    provider = client.provider

    for step, exchange in (
        (provider.code, written.code),
        (provider.upgrade, written.upgrade),
        (provider.refresh, written.refresh),
    ):
        if step is not None and exchange is not None:
            assert outcome(client, step, success(exchange)) == Rotated(tokens=exchange.tokens.tokens)


@pytest.mark.parametrize(("name", "place"), ERRORS)
def test_a_documented_error_has_its_outcome(name: str, place: int) -> None:
    """Each error that a provider documents has the expected outcome, reason, code and wait."""
    client, error = client_of(name), contract(name).errors[place]
    step = client.provider.code if error.step == "code" else client.provider.refresh

    answer = HttpAnswer(status=error.status, headers={"date": DATE, **error.headers}, body=error.body.encode())
    found = outcome(client, step, answer)

    assert not isinstance(found, Rotated)
    assert (label(found), reason(found), found.cause.code) == (error.outcome, error.reason, error.code)
    wait = found.retry_after if isinstance(found, Throttled) else None
    assert wait == (None if error.retry_after is None else timedelta(seconds=error.retry_after))


@EACH
def test_a_provider_that_is_not_refreshed_is_left_alone(name: str) -> None:
    """A grant whose token does not end is not due in any foreseeable time; every other one is, within its life."""
    facts = client_of(name).provider.facts
    issued = datetime(2026, 11, 24, 12, tzinfo=UTC)
    access = schedule.access_lifetime(None, facts)

    due = schedule.rotate_at(issued_at=issued, keep=Keep.ACCESS, facts=facts, access=access, refresh=None, draw=0.5)

    if contract(name).refresh is None:
        assert not facts.is_refreshed
        assert due >= issued + timedelta(days=365)
    else:
        assert facts.is_refreshed
        assert due < issued + access


@pytest.mark.anyio
@EACH
async def test_over_a_connection_it_is_the_same(name: str) -> None:
    """A real server receives exactly the documented requests, and its documented answers arrive as their tokens."""
    written = contract(name)
    code = [exchange for exchange in (written.code, written.upgrade) if exchange is not None]
    refresh = [exchange for exchange in (written.refresh,) if exchange is not None]
    answers = [exchange.answer for exchange in (*code, *refresh)]

    async with ScriptedServer(answers, date=DATE) as server, create_http_client(user_agent="Evergrant tests") as http:
        client = client_of(name, server.standing_in_for(catalogue()[name]))
        endpoint = TokenEndpoint(http, time.monotonic)
        if code:
            brought = await endpoint.exchange_code(client, CODE, verifier(client), captured=written.captured)
            assert isinstance(brought.outcome, Rotated)
            assert brought.outcome.tokens.access_token == code[-1].tokens.tokens.access_token
        if refresh:
            brought = await endpoint.refresh(
                client, REFRESH_TOKEN, access_token=ACCESS_TOKEN, captured=written.captured
            )
            assert brought.outcome == Rotated(tokens=refresh[0].tokens.tokens)

    received = [as_read(*request) for request in server.received]
    assert received == [as_read(*on_the_wire(exchange)) for exchange in (*code, *refresh)]


def as_read(method: str, url: str, headers: dict[str, str], body: str) -> dict[str, Any]:
    """Return a request as a server reads it: an HTTP library may write a slash in a query with or without an escape."""
    query = parse_qsl(urlsplit(url).query, keep_blank_values=True)
    return comparable(method, url, headers, body) | {"query": sorted(query)}


def on_the_wire(exchange: Exchange) -> tuple[str, str, dict[str, str], str]:
    """Return a documented request with the headers that go along with every one, names in lower case."""
    headers = {"Accept": "application/json", "User-Agent": "Evergrant tests"} | exchange.headers
    return exchange.method, exchange.url, {name.lower(): value for name, value in headers.items()}, exchange.body
