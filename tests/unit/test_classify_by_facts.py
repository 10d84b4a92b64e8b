"""What holds for every answer under every provider's facts; single answers are in the contract tests."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from worker.domain.facts import TokenFacts
from worker.domain.outcome import Dead, Rotated, Throttled, label
from worker.domain.secret import Secret
from worker.oauth.captured import captured_from_redirect
from worker.oauth.classify import classify
from worker.oauth.expiry import instant, jwt_lifetime
from worker.oauth.reading import Reading, reading_of
from worker.oauth.registry import build_registry
from worker.oauth.token_answer import HttpAnswer, read_object

#: Long enough not to stand in a word of ours by chance.
REFRESH_TOKEN = "rt-0f4c6a7be29d"
CLIENT_SECRET = "cs 77e1 & 25% of it"
SENT = (Secret(REFRESH_TOKEN), Secret(CLIENT_SECRET))
NOON = {"date": "Mon, 23 Nov 2026 12:00:00 GMT"}

any_text = st.text(st.characters(exclude_categories=()))  # halves of surrogate pairs too
paths = st.sampled_from(
    ["access_token", "refresh_token", "expires_in", "error", "data", "data.access_token", "a.0.b", "scope", "ok", "x"]
)
numbers = st.integers() | st.floats() | st.just(10**400)
scalars = st.none() | st.booleans() | numbers | any_text | st.sampled_from([REFRESH_TOKEN, CLIENT_SECRET, "a.b.c"])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(paths | any_text, inner, max_size=4),
    max_leaves=8,
)
objects = st.dictionaries(paths | any_text, values, max_size=6)
parameters = st.booleans() | st.integers() | st.sampled_from(["x", "invalid_grant", "", "true"])
successes = st.fixed_dictionaries({"field": paths, "equals": st.lists(parameters, min_size=1, max_size=2)}) | (
    st.fixed_dictionaries({"field": paths, "absent": st.just(True)})
)
answer_facts = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(["path", "access_token", "refresh_token", "scope", "account"], paths),
        **dict.fromkeys(["expires_in", "expires_at", "refresh_expires_in", "refresh_expires_at"], st.lists(paths)),
        "expires_in_unit": st.sampled_from(["s", "ms", "min", "h"]),
        "expires_from_jwt": st.booleans(),
        "success": successes,
        "capture": st.dictionaries(st.sampled_from(["one", "two"]), paths),
    },
)
rules = st.fixed_dictionaries(
    {"value": st.lists(parameters, min_size=1, max_size=2), "outcome": st.sampled_from(["dead", "throttled"])},
    optional={
        "status": st.lists(st.sampled_from([200, 400, 429, 500]), min_size=1, max_size=2),
        "field": paths,
        "description": st.sampled_from(["x", "a|b", "(?i)token", "^$"]),
    },
)
facts = st.fixed_dictionaries(
    {},
    optional={
        "answer": answer_facts,
        "errors": st.lists(rules, max_size=3),
        "style": st.sampled_from(["refresh_token", "token_exchange", "no_refresh"]),
        "refresh_lifetime": st.just("30d"),
        "refresh_lifetime_anchor": st.sampled_from(["issue", "consent"]),
    },
)
bodies = (
    st.binary()
    | values.map(json.dumps).map(str.encode)
    | objects.map(json.dumps).map(str.encode)
    | st.lists(st.sampled_from(["access_token=", "error=", "&", "at", "%ff", "%00", "<p>", " ", "="])).map(
        lambda parts: "".join(parts).encode()
    )
)
answers = st.builds(
    HttpAnswer,
    status=st.sampled_from([200, 201, 302, 400, 401, 403, 429, 500, 503]),
    headers=st.sampled_from([{}, NOON]),
    body=bodies,
    cut=st.booleans(),
)
relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def reading(table: dict[str, Any]) -> Reading:
    """Validate a provider with these facts, and return how its answers are read."""
    endpoints = {"authorization_endpoint": "https://acme.example/a", "token_endpoint": "https://acme.example/t"}
    registry = build_registry(
        catalogue={"acme": {**endpoints, **table}},
        providers={},
        clients={},
        environment={},
        public_url="https://tokens.example",
    )
    return reading_of(registry.providers["acme"], registry.providers["acme"].refresh)


@relaxed
@given(answer=answers, table=facts)
def test_every_answer_has_an_outcome_under_all_facts(answer: HttpAnswer, table: dict[str, Any]) -> None:
    """No fact makes an answer raise, whatever the two are."""
    assert label(classify(answer, facts=TokenFacts(), secrets=SENT, reading=reading(table)))


@relaxed
@given(
    fields=objects,
    table=facts,
    access_token=any_text.filter(bool),
    refresh_token=st.none() | any_text.filter(bool),
    wrapped=st.booleans(),
)
def test_no_fact_about_lifetimes_captures_or_scopes_loses_a_token(
    *, fields: dict[str, Any], table: dict[str, Any], access_token: str, refresh_token: str | None, wrapped: bool
) -> None:
    """Where the facts say where the tokens stand and no sign denies a success, they are taken as they came."""
    kept = {name: value for name, value in table.get("answer", {}).items() if name in _BESIDE_THE_TOKENS}
    # Without rules of the provider's own: one that names a value may find it in the very tokens, and counts then.
    told = {**table, "errors": [], "answer": {**kept, **({"path": "data"} if wrapped else {})}}
    tokens = {"access_token": access_token} | ({"refresh_token": refresh_token} if refresh_token else {})
    rest = {name: value for name, value in fields.items() if name not in {"access_token", "refresh_token"}}
    body = {**rest, "data": tokens} if wrapped else {**rest, **tokens}
    answer = HttpAnswer(status=200, headers=NOON, body=json.dumps(body).encode())

    outcome = classify(answer, facts=TokenFacts(), secrets=SENT, reading=reading(told))

    assert isinstance(outcome, Rotated)
    assert outcome.tokens.access_token == Secret(access_token)
    if table.get("style") == "token_exchange":
        assert outcome.tokens.refresh_token == Secret(access_token)
    else:
        assert outcome.tokens.refresh_token == (Secret(refresh_token) if refresh_token else None)
    for lifetime in (outcome.tokens.access_lifetime, outcome.tokens.refresh_lifetime):
        assert lifetime is None or 0 <= lifetime.total_seconds() <= 3650 * 86400
    for value in (*outcome.tokens.captured.values(), outcome.tokens.account or "-"):
        assert value.encode()
        assert "\x00" not in value
        assert len(value) <= 2048


_BESIDE_THE_TOKENS = {
    *("scope", "account", "expires_in", "expires_at", "refresh_expires_in", "refresh_expires_at"),
    *("expires_in_unit", "expires_from_jwt", "capture"),
}


@relaxed
@given(fields=objects, table=facts, issued=st.sampled_from(["at-5d0e8b4f7a31", "rt-9c3d4e5f6a7b"]), key=paths)
def test_no_fact_makes_an_outcome_show_a_secret(
    fields: dict[str, Any], table: dict[str, Any], issued: str, key: str
) -> None:
    """Captures, accounts and codes may stand anywhere, where a server may echo what it was sent, or what it sends."""
    name, _, below = key.partition(".")
    echo: object = {below: REFRESH_TOKEN, "0": {"b": CLIENT_SECRET}} if below else f"x {REFRESH_TOKEN}"
    for body in (
        {**fields, name: echo},
        {**fields, "access_token": issued, name: issued, "ok": issued, "x": {"y": issued}},
        {**fields, "data": {"access_token": issued, "x": issued}, "error": issued, "scope": [issued, CLIENT_SECRET]},
    ):
        for status in (200, 400):
            answer = HttpAnswer(status=status, headers=NOON, body=json.dumps(body).encode())
            shown = repr(classify(answer, facts=TokenFacts(), secrets=SENT, reading=reading(table)))
            for secret in (REFRESH_TOKEN, CLIENT_SECRET, issued):
                assert secret not in shown


@relaxed
@given(answer=answers, table=facts)
def test_only_a_rule_or_the_rfc_ends_a_grant(answer: HttpAnswer, table: dict[str, Any]) -> None:
    """Without a rule for it, only `invalid_grant` is the end; and 429 is a pause unless a rule names it."""
    without = {**table, "errors": [rule for rule in table.get("errors", []) if rule["outcome"] != "dead"]}
    named = any(429 in rule.get("status", []) for rule in table.get("errors", []))

    outcome = classify(answer, facts=TokenFacts(), secrets=SENT, reading=reading(without))
    ruled = classify(answer, facts=TokenFacts(), secrets=SENT, reading=reading(table))

    assert not isinstance(outcome, Dead) or outcome.cause.code == "invalid_grant"
    if answer.status == 429 and not named:
        assert isinstance(ruled, Throttled)


@relaxed
@given(parameters=st.dictionaries(st.sampled_from(["code", "state", "host", "realm", "x"]), any_text))
def test_a_redirect_chooses_no_host_of_its_own(parameters: dict[str, str]) -> None:
    """Whatever a browser brings, a captured placeholder is of its pattern and can end no address."""
    table = {
        "authorization_endpoint": "https://acme.example/a",
        "token_endpoint": "https://{host}/t",
        "placeholders": {"host": {"source": "redirect", "pattern": ".*"}},
        "redirect": {"capture": {"realm": "realm"}},
    }
    registry = build_registry(
        catalogue={"acme": table}, providers={}, clients={}, environment={}, public_url="https://tokens.example"
    )
    found = captured_from_redirect(registry.providers["acme"], parameters)

    assert set(found) <= {"host", "realm"}
    assert not set("/@?#\\ ") & set(found.get("host", ""))
    assert all(parameters.get("code") != value for value in found.values() if parameters.get("code"))


@relaxed
@given(value=values)
@example(value=float("nan"))
@example(value="9" * 40)
def test_no_instant_raises(value: object) -> None:
    """Whatever stands where an instant belongs, it is unknown or has a zone."""
    read = instant(value)

    assert read is None or read.utcoffset() is not None


@relaxed
@given(token=any_text | st.lists(any_text, min_size=3, max_size=3).map(".".join), now=st.none() | st.just(instant(1)))
def test_no_token_raises_when_it_is_looked_at_as_a_jwt(token: str, now: Any) -> None:
    """An opaque token has no lifetime of its own."""
    assert jwt_lifetime(token, now) is None


@relaxed
@given(body=bodies)
def test_reading_an_object_never_raises(body: bytes) -> None:
    """Bytes are an object or none."""
    read = read_object(HttpAnswer(status=200, headers={}, body=body))

    assert read is None or isinstance(read, dict)
