"""What `providers check --answer` makes of a file: a body or a whole response, and what a worker would do with it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.commands.provider_answer import MOST_READ, Step, meaning_of, parse_answer
from worker.domain.errors import ConfigurationError
from worker.oauth.exchange import BODY_LIMIT
from worker.oauth.provider import Provider

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
TOKENS = {"access_token": "at-5ecret-1", "refresh_token": "rt-5ecret-1"}


def provider(**facts: Any) -> Provider:
    """Return a provider with a few facts."""
    return Provider.model_validate(
        {
            "name": "acme",
            "authorization_endpoint": "https://acme.example/a",
            "token_endpoint": "https://acme.example/t",
            **facts,
        }
    )


def meant(
    text: str | dict[str, Any], status: int | None = None, step: Step = Step.REFRESH, **facts: Any
) -> tuple[str, dict[str, str]]:
    """Return what the first line says after the status, and the others as names with what is said of them."""
    content = text if isinstance(text, str) else json.dumps(text)
    answer = parse_answer(content.encode(), status=status, now=NOW)
    first, *more = meaning_of(answer, provider(**facts), step)
    assert "5ecret" not in "".join([first, *more])
    begin, _, outcome = first.partition(": ")
    assert begin == f"a {step} request that is answered like this, with status {answer.status}"
    return outcome, {name: said.strip() for name, _, said in (line.strip().partition("  ") for line in more)}


@pytest.mark.parametrize("line_end", ["\r\n", "\n"])
def test_a_whole_response_brings_its_status_and_headers(line_end: str) -> None:
    """What `curl -i` prints is taken apart, with either end of line; a status that is said outweighs the file's."""
    text = line_end.join(["HTTP/2 429 ", "Retry-After: 90", "X-Left:0", "", "{}"]).encode()
    answer = parse_answer(text, status=None, now=NOW)

    assert (answer.status, answer.headers["retry-after"], answer.headers["x-left"], answer.body) == (
        *(429, "90", "0"),
        b"{}",
    )
    assert parse_answer(text, status=400, now=NOW).status == 400
    for before in ("HTTP/1.1 200 Connection established", "HTTP/1.1 100 Continue"):
        interim = line_end.join([before, "", ""]).encode()
        assert parse_answer(interim + text, status=None, now=NOW) == answer


@pytest.mark.parametrize(
    ("text", "body"),
    [(b"HTTP/1.1 204 No Content\r\n\r\n", b""), (b"HTTP/1.1 200 OK\r\n", b""), (b"HTTP is not a status", None)],
)
def test_what_has_no_headers_or_no_body_is_read(text: bytes, body: bytes | None) -> None:
    """A response may end early; a body may begin with any word."""
    assert parse_answer(text, status=None, now=NOW).body == (text if body is None else body)


@given(st.binary(max_size=300), st.none() | st.integers(100, 599), st.sampled_from([Step.CODE, Step.REFRESH]))
def test_any_file_has_a_meaning(text: bytes, status: int | None, step: Step) -> None:
    """Whatever stands in a file, with or without a status line before it, something is said of it."""
    for content in (text, b"HTTP/1.1 200 OK\r\n" + text):
        assert list(meaning_of(parse_answer(content, status=status, now=NOW), provider(), step))


def test_a_body_beyond_the_cap_is_cut() -> None:
    """What a worker would not read to its end is not read to its end here."""
    answer = parse_answer(b" " * MOST_READ, status=None, now=NOW)
    assert (len(answer.body), answer.cut) == (BODY_LIMIT, True)


def test_what_a_success_brings_is_named_and_no_token_shown() -> None:
    """Lifetimes, scopes, the account and what is kept are told, each with where it was looked for in vain."""
    facts: dict[str, Any] = {"answer": {"account": "team.name", "capture": {"shop": "shop", "region": "where.region"}}}
    body = {**TOKENS, "expires_in": 90, "refresh_token_expires_in": 86_400, "scope": "a b", "shop": "x"}

    assert meant(body, **facts) == (
        "rotated",
        {
            "access_token": "there, ends after 90s",
            "refresh_token": "there, ends after 1d",
            "scopes": "a b",
            "account": "none at team.name",
            "shop": "there",
            "region": "none at where.region",
        },
    )
    assert meant({**body, "team": {"name": "Ada"}}, **facts)[1]["account"] == "Ada"


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({}, "there, no end told: taken for 1h"),
        ({"access_lifetime": timedelta(minutes=5)}, "there, no end told: taken for 5m"),
        ({"answer": {"expires_at": ["until"]}}, "there, ends after 30s"),
    ],
)
def test_the_end_of_an_access_token_is_told_or_what_is_taken_for_it(facts: dict[str, Any], told: str) -> None:
    """An instant is measured from now where the file has no date; where nothing is told the facts are taken."""
    body = {"access_token": "at-5ecret-1", "until": "2026-11-26T12:00:30Z"}
    outcome, said = meant(body, **facts)
    assert (outcome, said["access_token"]) == ("rotated", told)
    assert said["refresh_token"] == "none: the one that was presented is kept"


def test_a_token_exchange_has_no_refresh_token() -> None:
    """Where the access token itself is presented, that is said instead of a missing refresh token."""
    _, said = meant(TOKENS, style="token_exchange")
    assert said["refresh_token"] == "none: the access token is presented in its place"


def test_a_failure_says_what_it_means() -> None:
    """A refusal, a fault of ours and a wait are told by outcome, reason and code, with what to do."""
    rules = [{"field": "why", "value": 17, "outcome": "throttled", "retry_after": timedelta(minutes=10)}]
    dead, advice = meant({"error": "invalid_grant"}, 400)
    assert dead == "dead, invalid_grant (its code is invalid_grant)"
    assert "re-consent mail" in next(iter(advice))
    assert meant("<html>", 404)[0] == "misconfigured, endpoint_not_found"
    wait, said = meant({"why": 17}, 400, errors=rules)
    assert wait == "throttled, rate_limited (its code is 17)"
    assert list(said)[-1] == "It is tried again after 10m."


def test_a_step_that_a_provider_lacks_is_an_error() -> None:
    """An upgrade is asked for only where there is one."""
    with pytest.raises(ConfigurationError, match="has no upgrade; choose --step code or refresh"):
        meant(TOKENS, step=Step.UPGRADE)
    assert meant(TOKENS, step=Step.UPGRADE, upgrade={"endpoint": "https://acme.example/u"})[0] == "rotated"
