"""What holds for every answer of a token endpoint, however malformed; single answers are in the contract tests."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from worker.domain.facts import OldToken, Rotation, TokenFacts
from worker.domain.outcome import Dead, InDoubt, Misconfigured, Outcome, Rotated, Throttled, Unavailable, label
from worker.domain.secret import Secret
from worker.oauth.classify import classify
from worker.oauth.token_answer import HttpAnswer

#: Long enough not to stand in a word of ours by chance.
REFRESH_TOKEN = "rt-0f4c6a7be29d"
CLIENT_SECRET = "cs 77e1 & 25% of it"
SENT = (Secret(REFRESH_TOKEN), Secret(CLIENT_SECRET))

any_text = st.text(st.characters(exclude_categories=()))  # halves of surrogate pairs too
numbers = st.integers() | st.floats() | st.just(10**400) | st.just(-(10**30))
scalars = st.none() | st.booleans() | numbers | any_text | st.sampled_from([REFRESH_TOKEN, CLIENT_SECRET])
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4), max_leaves=8
)
codes = st.sampled_from(
    [
        *["invalid_grant", "invalid_client", "unauthorized_client", "invalid_request", "invalid_scope"],
        *["server_error", "temporarily_unavailable", "slow_down", "rate_limited", "bad_refresh_token"],
        *["access_denied", "", " invalid_grant"],
    ]
)
names = ["access_token", "refresh_token", "expires_in", "refresh_token_expires_in", "refresh_expires_in", "scope"]
objects = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(names, values),
        "error": codes | values | st.fixed_dictionaries({}, optional={"code": codes | values, "type": codes | values}),
        "error_description": values,
        "id_token": values,
    },
)
#: The first bytes by which UTF-16 and UTF-32 show themselves, and whatever comes then.
wide = st.builds(
    bytes.__add__, st.sampled_from([b"\x00\x00", b"\x00{", b"{\x00", b"\xff\xfe", b"\xfe\xff"]), st.binary()
)
bodies = wide | st.binary() | values.map(json.dumps).map(str.encode) | objects.map(json.dumps).map(str.encode)
statuses = st.integers(min_value=100, max_value=999) | st.sampled_from([200, 201, 400, 401, 403, 404, 429, 500, 503])
headers = st.fixed_dictionaries(
    {},
    optional={
        "retry-after": any_text | st.integers().map(str) | st.just("Fri, 31 Dec 9999 23:59:59 -2359"),
        "date": any_text | st.just("Mon, 23 Nov 2026 12:00:00 GMT"),
        "x-ratelimit-remaining": any_text | st.just("0"),
        "content-type": any_text,
    },
)
answers = st.builds(HttpAnswer, status=statuses, headers=headers, body=bodies, cut=st.booleans())
known_facts = st.builds(
    TokenFacts, rotation=st.none() | st.sampled_from(Rotation), old_token=st.none() | st.sampled_from(OldToken)
)
relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@relaxed
@given(answer=answers, facts=known_facts)
def test_every_answer_has_an_outcome(answer: HttpAnswer, facts: TokenFacts) -> None:
    """No status, header or body makes it raise, and its outcome has a label."""
    assert label(classify(answer, facts=facts, secrets=SENT))


@relaxed
@given(
    status=st.integers(min_value=200, max_value=299),
    fields=st.dictionaries(any_text, values, max_size=5) | objects,
    access_token=st.text(st.characters(exclude_categories=()), min_size=1),
    refresh_token=st.none() | st.text(st.characters(exclude_categories=()), min_size=1),
    order=st.booleans(),
)
def test_a_token_that_arrived_is_never_lost(
    *, status: int, fields: dict[str, Any], access_token: str, refresh_token: str | None, order: bool
) -> None:
    """Whatever else a successful answer says, its tokens are taken exactly as they came."""
    tokens = {"access_token": access_token} | ({"refresh_token": refresh_token} if refresh_token else {})
    rest = {name: value for name, value in fields.items() if name not in {"access_token", "refresh_token"}}
    body = json.dumps(tokens | rest if order else rest | tokens).encode()

    outcome = classify(HttpAnswer(status=status, headers={}, body=body), facts=TokenFacts(), secrets=SENT)

    assert isinstance(outcome, Rotated)
    assert outcome.tokens.access_token.reveal() == access_token
    assert outcome.tokens.refresh_token == (Secret(refresh_token) if refresh_token else None)
    for lifetime in (outcome.tokens.access_lifetime, outcome.tokens.refresh_lifetime):
        assert lifetime is None or 0 <= lifetime.total_seconds() <= 3650 * 86400
    for scope in outcome.tokens.scopes or ():
        assert scope.encode()
        assert "\x00" not in scope


@relaxed
@given(
    status=statuses,
    fields=objects,
    tokens=st.fixed_dictionaries(dict.fromkeys(["access_token", "refresh_token"], any_text.filter(bool))),
    around=st.tuples(any_text, any_text).filter(lambda words: "{" not in "".join(words)),
    ended=st.sampled_from(["whole", "cut", "broken"]),
)
def test_neither_status_nor_framing_loses_a_new_refresh_token(
    *, status: int, fields: dict[str, Any], tokens: dict[str, str], around: tuple[str, str], ended: str
) -> None:
    """Words around them, a status against them, a connection that broke: what cannot be had again is kept."""
    told = {name: value for name, value in fields.items() if name not in {"error", *tokens}} | tokens
    before, after = (words.encode("utf-8", "replace") for words in around)
    body = before.replace(b"\x00", b"") + json.dumps(told).encode() + after
    answer = HttpAnswer(status=status, headers={}, body=body, cut=ended == "cut", broken=ended == "broken")

    outcome = classify(answer, facts=TokenFacts(), secrets=SENT)

    assert isinstance(outcome, Rotated)
    assert outcome.tokens.refresh_token == Secret(tokens["refresh_token"])


@relaxed
@given(
    answer=answers, facts=known_facts, fields=objects, issued=st.sampled_from(["at-5d0e8b4f7a31", "rt-9c3d4e5f6a7b"])
)
def test_no_outcome_shows_a_secret(answer: HttpAnswer, facts: TokenFacts, fields: dict[str, Any], issued: str) -> None:
    """Neither what was sent nor what was received stands in an outcome's repr, wherever the answer repeats it."""
    sent = {"error": REFRESH_TOKEN, "scope": [f"profile {REFRESH_TOKEN}", CLIENT_SECRET], "expires_in": REFRESH_TOKEN}
    received = {"access_token": issued, "error": issued, "scope": f"profile {issued} {REFRESH_TOKEN}"}
    nested = {"access_token": None, "refresh_token": issued, "error": {"code": issued}, "scope": issued}
    for body in (answer.body, *(json.dumps(fields | echo).encode() for echo in (sent, received, nested))):
        echoing = HttpAnswer(status=answer.status, headers=answer.headers, body=body)
        outcome = classify(echoing, facts=facts, secrets=SENT)
        for secret in (REFRESH_TOKEN, CLIENT_SECRET, issued):
            assert secret not in repr(outcome)
            assert secret not in repr(echoing)


@relaxed
@given(answer=answers, facts=known_facts)
def test_only_the_word_of_the_server_ends_a_grant(answer: HttpAnswer, facts: TokenFacts) -> None:
    """Dead needs the code `invalid_grant` in the body; nothing unknown, unreadable or throttled is dead."""
    outcome = classify(answer, facts=facts, secrets=SENT)

    if isinstance(outcome, Dead):
        assert outcome.cause.code == "invalid_grant"
        assert b"invalid_grant" in answer.body
        assert answer.status != 429


@relaxed
@given(answer=answers)
def test_facts_decide_only_between_unavailable_and_in_doubt(answer: HttpAnswer) -> None:
    """Where a token survives a server's failure it is a plain failure, elsewhere a doubt; nothing else changes."""
    single_use = classify(answer, facts=TokenFacts(old_token=OldToken.INVALIDATED), secrets=SENT)
    surviving = classify(answer, facts=TokenFacts(old_token=OldToken.STAYS_VALID), secrets=SENT)

    if isinstance(single_use, InDoubt) and isinstance(surviving, Unavailable):
        assert single_use.cause == surviving.cause
        assert surviving.sent
    else:
        assert single_use == surviving


@relaxed
@given(answer=answers, fields=objects, cut=st.booleans())
def test_of_an_answer_that_was_cut_only_whole_tokens_are_believed(
    *, answer: HttpAnswer, fields: dict[str, Any], cut: bool
) -> None:
    """What is longer than the cap, or whose connection broke, is no error of anybody's; an object is whole or not."""
    whole = json.dumps(fields).encode()
    for body in (whole, whole[:-1], whole + b" ..."):
        part = HttpAnswer(status=answer.status, headers=answer.headers, body=body, cut=cut, broken=not cut)
        outcome = classify(part, facts=TokenFacts(), secrets=SENT)

        assert not isinstance(outcome, Dead)
        if isinstance(outcome, Rotated):
            assert body != whole[:-1]
        else:
            assert outcome.cause.code is None


@relaxed
@given(fields=objects, retry_after=st.integers(min_value=0, max_value=10**6))
def test_too_many_requests_is_always_throttled(fields: dict[str, Any], retry_after: int) -> None:
    """429 speaks for itself: no code in the body makes it a strike or opens the breaker. Tokens are tokens, though."""
    told = {name: value for name, value in fields.items() if name != "access_token"}
    answer = HttpAnswer(status=429, headers={"retry-after": str(retry_after)}, body=json.dumps(told).encode())

    outcome = classify(answer, facts=TokenFacts(), secrets=SENT)

    assert isinstance(outcome, Throttled)
    assert outcome.retry_after is not None
    assert outcome.retry_after.total_seconds() == retry_after


@relaxed
@given(answer=answers, secrets=st.lists(any_text, max_size=3))
def test_no_secret_changes_what_a_known_code_means(answer: HttpAnswer, secrets: list[str]) -> None:
    """A secret that happens to contain, or to be part of, a known code does not hide that code."""
    dead = HttpAnswer(status=400, headers={}, body=b'{"error": "invalid_grant"}')
    ours = HttpAnswer(status=401, headers={}, body=b'{"error": "invalid_client"}')
    held = tuple(Secret(value) for value in (*secrets, "", "invalid", "the invalid_grant and invalid_client of it"))

    assert isinstance(classify(dead, facts=TokenFacts(), secrets=held), Dead)
    assert isinstance(classify(ours, facts=TokenFacts(), secrets=held), Misconfigured)
    throttled = classify(HttpAnswer(status=429, headers={}, body=dead.body), facts=TokenFacts(), secrets=held)
    assert isinstance(throttled, Throttled)
    assert throttled.cause.code == "invalid_grant"
    assert _kind(classify(answer, facts=TokenFacts(), secrets=held)) is _kind(
        classify(answer, facts=TokenFacts(), secrets=SENT)
    )


def _kind(outcome: Outcome) -> type[Outcome]:
    return type(outcome)
