"""A provider's facts: what validation accepts, what it refuses, and that no message shows a secret."""

from __future__ import annotations

import traceback
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.domain.duration import parse_duration
from worker.domain.errors import ConfigurationError
from worker.domain.facts import Anchor, OldToken, Rotation, TokenFacts
from worker.oauth.provider import Provider
from worker.oauth.provider_kinds import Pkce
from worker.oauth.provider_steps import ClientAuth, RequestEncoding
from worker.oauth.registry import build_registry

ACME = {
    "authorization_endpoint": "https://login.acme.example/authorize",
    "token_endpoint": "https://api.acme.example/oauth2/token",
}
ENDPOINTS = ["authorization_endpoint", "token_endpoint", "revocation_endpoint", "introspection_endpoint"]


def provider(**keys: Any) -> Provider:
    """Validate `[providers.acme]` with these keys beside the two endpoints."""
    registry = build_registry(
        catalogue={}, providers={"acme": {**ACME, **keys}}, clients={}, environment={}, public_url="http://127.0.0.1"
    )
    return registry.providers["acme"]


def complaint(**keys: Any) -> str:
    """Return the message with which `[providers.acme]` is refused; it is one line that names the table."""
    with pytest.raises(ConfigurationError) as caught:
        provider(**keys)
    message = str(caught.value)
    assert message.startswith("[providers.acme] ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("key", ENDPOINTS)
@pytest.mark.parametrize(
    "url",
    [
        *["https://api.acme.example/token", "https://api.acme.example:8443/a/b?tenant=1", "HTTPS://API.acme.example/"],
        *["http://localhost/token", "http://localhost:9000/token", "http://127.0.0.1:1/", "http://127.8.9.10/token"],
        *["http://[::1]:9000/token", "https://[2606:4700::1111]/token", "https://1.1.1.1/token", "http://LOCALHOST/t"],
        *[
            "https://acme.example./t",
            "https://bücher.example/t",
            f"https://{'a' * 63}.example/t",
            "https://a_b.example/",
        ],
    ],
)
def test_https_and_loopback_endpoints_are_accepted(key: str, url: str) -> None:
    """Endpoints are https, or http on this machine, and are kept as written."""
    assert getattr(provider(**{key: url}), key) == url


@pytest.mark.parametrize("key", ENDPOINTS)
@pytest.mark.parametrize(
    "url",
    [
        *["http://api.acme.example/token", "http://10.0.0.7/token", "http://0.0.0.0/token", "http://192.168.1.1/t"],
        *["http://localhost.acme.example/t", "http://127.0.0.1.acme.example/t", "http://[2001:db8::1]/t"],
        *["http://127.0.0.1@acme.example/t", "http://localhost:80@acme.example/t", "http://128.0.0.1/t"],
    ],
)
def test_http_beyond_loopback_is_refused(key: str, url: str) -> None:
    """Plain http to another machine would send secrets in the clear, however like loopback it looks."""
    assert complaint(**{key: url}).startswith(f"[providers.acme] {key}: must be https://")


@pytest.mark.parametrize(
    "url",
    [
        *[
            "",
            "api.acme.example/token",
            "/token",
            "ftp://acme.example/t",
            "file:///etc/passwd",
            "https://",
            "https:///t",
        ],
        *["javascript:alert(1)", "https://[::1", "https://acme.example:port/t", "https://acme.example:99999/t"],
        *[
            "https://acme.example/a b",
            " https://acme.example/t",
            "https://acme.example/t\n",
            "https://acme\x00.example/t",
        ],
        *["https://acme\u2100.example/t"],
        # What no resolver takes: a part of the name is empty or too long, or the name is.
        *["https://a..example/t", "https://.example/t", "https://acme.example../t"],
        *[f"https://{'a' * 64}.example/t", f"https://{'a.' * 125}example/t", f"https://{'ü' * 60}.example/t"],
        *["https://xn--/t\u00ad", "https://\u00ad.example/t"],
    ],
)
def test_what_no_request_can_be_sent_to_is_refused(url: str) -> None:
    """An endpoint that is not a usable http(s) URL stops the start, not the first refresh."""
    assert complaint(token_endpoint=url) == "[providers.acme] token_endpoint: is not an http(s) URL"


@pytest.mark.parametrize(
    "url", ["https://user:hunter2@acme.example/t", "https://hunter2@acme.example/t", "https://acme.example/t#hunter2"]
)
def test_credentials_and_fragments_in_an_endpoint_are_refused(url: str) -> None:
    """An endpoint is logged and shown, so it carries no secret; the refusal does not show it either."""
    assert complaint(token_endpoint=url) == (
        "[providers.acme] token_endpoint: must not carry a user name, a password or a fragment"
    )


@pytest.mark.parametrize("url", ["https://user:hunter2\u2100@acme.example/t", "https://u:[hunter2]@acme.example/t"])
def test_no_malformed_endpoint_shows_its_password(url: str) -> None:
    """What the standard library says of a malformed URL may repeat its password; our message does not."""
    with pytest.raises(ConfigurationError) as caught:
        provider(token_endpoint=url)

    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("token_endpont", "token_endpoint"),
        ("authorisation_endpoint", "authorization_endpoint"),
        ("client_authentication", "client_auth"),
        ("old_tokens", "old_token"),
        ("reuse-grace", "reuse_grace"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest(key: str, nearest: str) -> None:
    """A misspelt key is an error that says which one was probably meant."""
    assert complaint(**{key: "x"}) == f"[providers.acme] unknown key {key!r} (did you mean {nearest!r}?)"


def test_an_unknown_key_like_no_other_lists_those_that_are_known() -> None:
    """Where nothing is near, the first dozen keys are listed."""
    message = complaint(zzzzzz=1)

    assert message.startswith("[providers.acme] unknown key 'zzzzzz' (known: ")
    assert "access_lifetime" in message
    assert message.endswith(", …)")
    assert message.count(",") == 12


def test_the_name_of_a_provider_is_that_of_its_table() -> None:
    """A `name` key is unknown like any other, and not quietly overwritten."""
    assert "unknown key 'name'" in complaint(name="another")


def test_every_wrong_key_is_reported_at_once() -> None:
    """One start shows all mistakes of a table."""
    message = complaint(token_endpoint="http://acme.example", strikes=0, pkce="maybe", grace="30s")

    assert [part.split(":")[0].split(" (")[0] for part in message.removeprefix("[providers.acme] ").split("; ")] == [
        "token_endpoint",
        "pkce",
        "strikes",
        "unknown key 'grace'",
    ]


@pytest.mark.parametrize("missing", ["authorization_endpoint", "token_endpoint"])
def test_both_endpoints_are_needed(missing: str) -> None:
    """A provider without an authorization or token endpoint is refused by that key's name."""
    table = {key: url for key, url in ACME.items() if key != missing}
    with pytest.raises(ConfigurationError, match=rf"^\[providers\.acme\] {missing} is missing$"):
        build_registry(catalogue={}, providers={"acme": table}, clients={}, environment={}, public_url="http://[::1]")


def test_a_grace_needs_its_length() -> None:
    """`old_token = "grace"` says nothing without `reuse_grace`."""
    assert 'old_token = "grace" needs reuse_grace' in complaint(old_token="grace")


@pytest.mark.parametrize("old_token", [None, "invalidated", "until_new_used", "stays_valid"])
def test_a_length_needs_a_grace(old_token: str | None) -> None:
    """`reuse_grace` beside any other fate of the old token contradicts it."""
    keys = {} if old_token is None else {"old_token": old_token}

    assert 'reuse_grace only goes with old_token = "grace"' in complaint(reuse_grace="30s", **keys)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("token_request_encoding", "xml"),
        ("client_auth", "client_secret_jwt"),
        ("scope_separator", ";"),
        ("pkce", "plain"),
        ("revocation", "both"),
        ("rotation", "maybe"),
        ("old_token", "dead"),
        ("reuse_grace", "30"),
        ("reuse_grace", "0s"),
        ("access_lifetime", "-1h"),
        ("access_lifetime", "99999d"),
        ("refresh_lifetime", "3651d"),
        ("refresh_idle_timeout", "soon"),
        ("strike_interval", "0ms"),
        ("strikes", 0),
        ("strikes", 11),
        ("strikes", "two"),
        ("request_timeout", "121s"),
        ("request_timeout", "0s"),
        ("authorize_params", ["access_type"]),
        ("authorize_params", {"n": 1}),
        ("sources", 7),
    ],
)
def test_a_value_out_of_its_range_is_refused_by_name(key: str, value: object) -> None:
    """A value that is not one of those allowed is refused, and the message begins with its key."""
    assert complaint(**{key: value}).startswith(f"[providers.acme] {key}")


@pytest.mark.parametrize(("key", "longest"), [("strike_interval", "3650d"), ("request_timeout", "2m")])
def test_the_range_of_a_duration_is_said_as_it_is_written(key: str, longest: str) -> None:
    """The message gives the limit in the form that configuration takes."""
    message = f"[providers.acme] {key}: must be longer than 0s and at most {longest}"

    assert (complaint(**{key: "0s"}), complaint(**{key: "3651d"})) == (message, message)
    assert getattr(provider(**{key: longest}), key) == parse_duration(longest)


def test_what_is_not_set_is_unknown() -> None:
    """Two endpoints make a provider; its facts are unknown, and the rest is what RFC 6749 calls the default."""
    bare = provider()

    assert bare.name == "acme"
    assert bare.facts == TokenFacts()
    assert bare.pkce is None
    assert not bare.sends_pkce
    assert bare.token_request_encoding is RequestEncoding.FORM
    assert bare.client_auth is ClientAuth.CLIENT_SECRET_BASIC
    assert bare.scope_separator == " "
    assert (bare.revocation_endpoint, bare.revocation, bare.introspection_endpoint) == (None, None, None)
    assert bare.request_timeout == timedelta(seconds=20)


def test_facts_are_handed_on() -> None:
    """Each fact that decisions need is the one that was configured."""
    known = provider(
        rotation="sometimes",
        old_token="grace",
        reuse_grace="30s",
        access_lifetime="1h",
        refresh_lifetime="365d",
        refresh_idle_timeout="90d",
        strikes=3,
        strike_interval="5m",
        introspection_endpoint="https://api.acme.example/introspect",
    )

    assert known.facts == TokenFacts(
        rotation=Rotation.SOMETIMES,
        old_token=OldToken.GRACE,
        reuse_grace=timedelta(seconds=30),
        access_lifetime=timedelta(hours=1),
        refresh_lifetime=timedelta(days=365),
        refresh_anchor=Anchor.CONSENT,
        refresh_idle_timeout=timedelta(days=90),
        strikes=3,
        strike_interval=timedelta(minutes=5),
        is_introspected=True,
    )


@pytest.mark.parametrize(
    ("rotation", "old_token", "safe"),
    [
        (None, None, False),
        ("always", None, False),
        ("sometimes", None, False),
        ("never", None, True),
        ("always", "invalidated", False),
        ("always", "grace", False),
        ("always", "until_new_used", True),
        ("always", "stays_valid", True),
        (None, "stays_valid", True),
    ],
)
def test_the_unknown_is_dangerous(rotation: str | None, old_token: str | None, *, safe: bool) -> None:
    """Presenting a token again counts as safe only where the facts say so."""
    keys = {"rotation": rotation, "old_token": old_token, "reuse_grace": "30s" if old_token == "grace" else None}

    assert provider(**{key: value for key, value in keys.items() if value}).facts.is_resend_safe is safe


@pytest.mark.parametrize(("old_token", "asked"), [(None, True), ("invalidated", True), ("grace", False)])
def test_a_doubtful_token_is_asked_about_where_the_answer_says_something(old_token: str | None, *, asked: bool) -> None:
    """With an introspection endpoint a token is asked about first, but within a grace "not active" says nothing."""
    keys = {"old_token": old_token, "reuse_grace": "30s" if old_token == "grace" else None}
    known = {key: value for key, value in keys.items() if value}

    assert provider(introspection_endpoint="https://acme.example/i", **known).facts.is_asked_about_first is asked
    assert not provider(**known).facts.is_asked_about_first


@pytest.mark.parametrize(("pkce", "sent"), [(Pkce.REQUIRED, True), (Pkce.SUPPORTED, True), (Pkce.OFF, False)])
def test_pkce_is_sent_where_it_is_taken(pkce: Pkce, *, sent: bool) -> None:
    """A challenge goes along where the provider requires or supports it."""
    assert provider(pkce=pkce.value).sends_pkce is sent


@settings(deadline=None)
@given(url=st.text() | st.from_regex(r"https?://[^\s/]{0,20}(:\d{0,6})?/?.{0,10}"))
def test_any_endpoint_is_accepted_or_refused_with_one_line(url: str) -> None:
    """No text in place of an endpoint raises anything but the one error, and plain http leaves this machine never."""
    try:
        accepted = provider(token_endpoint=url)
    except ConfigurationError as error:
        assert str(error).startswith("[providers.acme] token_endpoint: ")  # noqa: PT017 -- both outcomes are right
        return
    assert accepted.token_endpoint == url
