"""The sub-tables of a provider: what each accepts, and the one line in which each mistake is answered."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import pytest

from worker.domain.errors import ConfigurationError
from worker.domain.facts import Anchor
from worker.oauth.client import Client
from worker.oauth.provider import Provider
from worker.oauth.registry import Registry, build_registry

ACME = {
    "authorization_endpoint": "https://login.acme.example/authorize",
    "token_endpoint": "https://api.acme.example/oauth2/token",
}
TENANT = {
    "authorization_endpoint": "https://{tenant}.acme.example/a",
    "token_endpoint": "https://{tenant}.acme.example/t",
}


def registry(table: Mapping[str, Any], overrides: Mapping[str, Any] | None = None, **client: Any) -> Registry:
    """Build a registry of one provider, with a client where one is described."""
    clients = {"c": {"provider": "acme", "client_id": "abc", "client_secret": "env:S", **client}} if client else {}
    return build_registry(
        catalogue={"acme": table},
        providers={"acme": overrides} if overrides else {},
        clients=clients,
        environment={"S": "hunter2"},
        public_url="https://tokens.example",
    )


def provider(**keys: Any) -> Provider:
    """Validate a provider with these keys beside the two endpoints."""
    return registry({**ACME, **keys}).providers["acme"]


def client(table: Mapping[str, Any], **keys: Any) -> Client:
    """Build a client of a provider."""
    return registry({**ACME, **table}, keep="access", **keys).client("c")


def complaint(table: Mapping[str, Any], **keys: Any) -> str:
    """Return the one line with which a provider, or a client of it, is refused."""
    with pytest.raises(ConfigurationError) as caught:
        registry({**ACME, **table}, **keys)
    message = str(caught.value)
    assert "\n" not in message
    assert "hunter2" not in message
    return message.removeprefix("[providers.acme] ").removeprefix("[clients.c] ")


@pytest.mark.parametrize(
    ("keys", "written", "meant"),
    [
        ({"refresh": {"parms": {}}}, "refresh.parms", "refresh.params"),
        ({"code": {"answer": {"acces_token": "x"}}}, "code.answer.acces_token", "code.answer.access_token"),
        ({"answer": {"success": {"feild": "ok", "absent": True}}}, "answer.success.feild", "answer.success.field"),
        ({"errors": [{"vale": 1, "outcome": "dead"}]}, "vale", "value"),
        ({"errors": [{"value": 1, "outcom": "dead"}]}, "outcom", "outcome"),
        ({"limits": {"refreshes_per_grnt": "1/m"}}, "limits.refreshes_per_grnt", "limits.refreshes_per_grant"),
        ({"placeholders": {"x": {"patern": "a"}}}, "placeholders.x.patern", "placeholders.x.pattern"),
        ({"redirect": {"captures": {}}}, "redirect.captures", "redirect.capture"),
        ({"refresh_endpoint": "https://acme.example/r"}, "refresh_endpoint", "refresh.endpoint"),
        ({"answer_path": "data"}, "answer_path", "answer.path"),
        ({"upgrade": {"enpoint": "https://acme.example/u"}}, "upgrade.enpoint", "upgrade.endpoint"),
    ],
)
def test_an_unknown_key_at_any_depth_is_named_with_the_nearest(
    keys: Mapping[str, Any], written: str, meant: str
) -> None:
    """A typo is answered with the key that was meant, by its whole path, wherever it belongs."""
    assert f"unknown key {written!r} (did you mean {meant!r}?)" in complaint(keys)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        (
            {"refresh": {"omit": ["granttype"]}},
            "refresh: omit: there is no parameter 'granttype' (did you mean 'grant_type'?)",
        ),
        (
            {"refresh": {"rename": {"refresh_token": "key", "client_id": "key"}}},
            "refresh: rename: two parameters would be called 'key', and one of them lost",
        ),
        (
            {"refresh": {"params": {"key": "1"}, "rename": {"refresh_token": "key"}}},
            "refresh: rename: two parameters would be called 'key', and one of them lost",
        ),
        ({"authorize": {"rename": {"client": "k"}}}, "authorize: rename: there is no parameter 'client'"),
        ({"answer": {"success": {"field": "ok"}}}, "answer.success: needs either equals"),
        ({"answer": {"success": {"field": "ok", "equals": True, "absent": True}}}, "answer.success: needs either"),
        ({"answer": {"path": "a..b"}}, "answer.path: is not a path"),
        ({"answer": {"expires_at": ["ok", ""]}}, "answer.expires_at, entry 2: is not a path"),
        (
            {"errors": [{"outcome": "dead"}]},
            "[[providers.acme.errors]] number 1: a rule needs status, field, value or description",
        ),
        (
            {"errors": [{"status": 400, "outcome": "dead"}]},
            '[[providers.acme.errors]] number 1: outcome = "dead" needs value or description',
        ),
        (
            {"errors": [{"value": "x", "outcome": "dead", "retry_after": "1m"}]},
            "[[providers.acme.errors]] number 1: retry_after goes with",
        ),
        (
            {"errors": [{"value": "x", "outcome": "dead", "reason": "tls"}]},
            "[[providers.acme.errors]] number 1: reason must be one of",
        ),
        (
            {"errors": [{"value": "x", "outcome": "alive"}]},
            "[[providers.acme.errors]] number 1: outcome: must be one of 'dead', 'misconfigured',",
        ),
        (
            {"errors": [{"status": 42, "outcome": "throttled"}]},
            "[[providers.acme.errors]] number 1: status, entry 1: must be at least 100",
        ),
        ({"errors": [{"description": "(", "outcome": "dead"}]}, "number 1: description: is not a regular expression"),
        (
            {"errors": [{"value": 1.5, "outcome": "dead"}]},
            "number 1: value, entry 1: must be a text in quotes, a whole",
        ),
        ({"errors": [{"value": 1, "outcome": "ded"}]}, "(did you mean 'dead'?)"),
        (
            {"errors": {"value": 1, "outcome": "dead"}},
            "errors: must be a list of tables, each written [[providers.acme.",
        ),
        ({"errors": ["dead"]}, "[[providers.acme.errors]] number 1: must be a table"),
        ({"errors": [{"value": 1}]}, "[[providers.acme.errors]] number 1: outcome is missing"),
        (
            {"pkce": "supportd", "errors": [{"value": 1, "outcome": "dead"}, {"value": 1, "outcome": 7, "field": ""}]},
            "pkce: must be one of 'required', 'supported', 'off' (did you mean 'supported'?); [[providers.acme.",
        ),
        ({"refresh": "POST"}, "refresh: must be a table"),
        ({"access_lifetime": True}, "access_lifetime: must be a duration such as 30s, 10m or 24h"),
        ({"checked": "lately"}, "checked: must be a date such as 2026-11-24"),
        ({"headers": {"Host": "evil.example"}}, "headers: 'Host' is not a header that can be set here"),
        ({"headers": {"X Y": "z"}}, "headers: 'X Y' is not a header"),
        ({"headers": {"X": "a\r\nb"}}, "headers: the value of 'X' must be printable ASCII"),
        ({"refresh": {"params": {"n": 1.5}}}, "refresh.params.n"),
        (
            {"refresh": {"params": {"tenant": "{tenant}"}}},
            "refresh.params.tenant names {tenant}, and no [placeholders.tenant]",
        ),
        ({"refresh": {"params": {"t": "{acces_token}"}}}, "says who fills it (did you mean 'access_token'?)"),
        ({"refresh": {"method": "PUT"}}, "refresh.method: "),
        ({"limits": {"refreshes_per_grant": "10/0m"}}, "limits.refreshes_per_grant: '10/0m' is not a rate"),
        ({"limits": {"live_refresh_tokens": 0}}, "limits.live_refresh_tokens"),
        ({"earliest_margin": "30s", "latest_margin": "30s"}, "latest_margin must be shorter than earliest_margin"),
        ({"token_endpoint": "https://{Tenant}.acme.example/t"}, "token_endpoint: has a brace that is no {placeholder}"),
        (
            {"token_endpoint": "https://{tenant}.acme.example/t"},
            "token_endpoint names {tenant}, and no [placeholders.tenant]",
        ),
        ({"token_endpoint": "http://{host}/t"}, "token_endpoint: must be https://"),
        ({"placeholders": {"scope": {}}}, "placeholders.scope: a placeholder needs a name of its own"),
        ({"placeholders": {"A-b": {}}}, "placeholders.A-b: a placeholder needs a name of its own"),
        ({"placeholders": {"x": {"source": "redirect"}}}, "placeholders.x: pattern is missing"),
        (
            {"placeholders": {"x": {"field": "y"}}},
            'placeholders.x: field goes with source = "redirect" or "answer" only',
        ),
        ({"placeholders": {"x": {"pattern": "[a-z]+", "default": "1"}}}, "placeholders.x: default does not match"),
        (
            {**TENANT, "placeholders": {"tenant": {"pattern": ".*", "default": "evil.example/"}}},
            "placeholders.tenant: the default does not fit into authorization_endpoint",
        ),
        ({"inferred": ["clientauth"]}, "inferred: there is no key 'clientauth'"),
        ({"token_endpoint": "https://10.0.0.7/t"}, "token_endpoint: 10.0.0.7 is a private address"),
        ({"introspection_endpoint": "https://[fe80::1]/t"}, "introspection_endpoint: fe80::1 is a private address"),
        (
            {"refresh": {"endpoint": "https://169.254.169.254/t"}},
            "refresh.endpoint: 169.254.169.254 is a private address",
        ),
    ],
)
def test_a_mistake_in_a_sub_table_is_answered_in_one_line(keys: Mapping[str, Any], problem: str) -> None:
    """Each says which key is wrong, and what would be right."""
    assert problem in complaint(keys)


def test_a_private_address_is_accepted_where_it_is_meant() -> None:
    """One key allows it, and the browser's address needs none."""
    assert provider(token_endpoint="https://10.0.0.7/t", allow_private_addresses=True).token_endpoint
    assert provider(authorization_endpoint="https://10.0.0.7/a").authorization_endpoint


def test_simple_providers_stay_simple() -> None:
    """Two endpoints are a provider; whatever differs is empty."""
    plain = provider()

    assert (plain.errors, plain.placeholders, plain.headers, plain.upgrade) == ((), {}, {}, None)
    assert plain.answer.path is None
    assert plain.client_secret_codes == {"invalid_client"}


@pytest.mark.parametrize("key", ["authorization_endpoint", "token_endpoint"])
def test_an_endpoint_that_nobody_knows_is_said_to_be_unknown(key: str) -> None:
    """It is left out aloud, or because an issuer can be asked, or because only the refresh has one."""
    table = {name: url for name, url in ACME.items() if name != key}

    assert getattr(registry({**table, "unknown": [key]}).providers["acme"], key) is None
    assert getattr(registry({**table, "issuer": "https://acme.example"}).providers["acme"], key) is None
    only_refresh = {"refresh": {"endpoint": "https://acme.example/r"}, "unknown": ["authorization_endpoint"]}
    assert registry(only_refresh).providers["acme"].token_endpoint is None


def test_a_client_needs_a_token_endpoint() -> None:
    """What discovery would find has to be written down before it is used, and the message says how it is found."""
    with pytest.raises(
        ConfigurationError, match=r"^\[clients\.c\] provider 'acme' has no token_endpoint yet: .* acme --discover"
    ):
        registry({"issuer": "https://acme.example"}, keep="access")


def test_overrides_reach_into_sub_tables() -> None:
    """A key of a sub-table is overridden alone; a list is replaced whole."""
    table = {
        **ACME,
        "refresh": {"params": {"a": "1", "b": "2"}, "method": "GET"},
        "errors": [{"value": "x", "outcome": "dead"}],
        "sources": ["one"],
    }
    overrides = {"refresh": {"params": {"b": "3"}}, "errors": [{"value": "y", "outcome": "throttled"}]}

    merged = registry(table, overrides).providers["acme"]

    assert merged.refresh.params == {"a": "1", "b": "3"}
    assert merged.refresh.method == "GET"
    assert [rule.value for rule in merged.errors] == [("y",)]
    assert merged.sources == ("one",)


def test_the_short_way_for_parameters_is_the_long_way() -> None:
    """`authorize_params` and `authorize.params` are one table; the second counts first."""
    both = provider(authorize_params={"a": "1", "b": "2"}, authorize={"params": {"b": "3"}, "omit": ["a"]})

    assert both.authorize.params == {"a": "1", "b": "3"}
    assert both.authorize.omit == ("a",)


def test_values_are_read_in_the_forms_of_configuration() -> None:
    """One value stands for a list of one, a rate has a window, a date is a date."""
    read = provider(
        limits={"refreshes_per_grant": "10/10m", "refreshes_per_client": "600/m"},
        errors=[{"value": 190, "status": 400, "outcome": "dead"}],
        checked=date(2026, 11, 24),
        notes="one",
        answer={"expires_at": "expiry"},
    )

    assert read.limits.refreshes_per_grant == pytest.approx(1 / 60)
    assert read.facts.refresh_interval == timedelta(minutes=1)
    assert (read.errors[0].value, read.errors[0].status) == ((190,), (400,))
    assert (read.checked, read.notes, read.answer.expires_at) == (date(2026, 11, 24), ("one",), ("expiry",))
    assert read.model_dump(mode="json")["errors"][0]["value"] == [190]


def test_a_lifetime_from_issue_is_an_idle_timeout() -> None:
    """Where each refresh token has its lifetime anew, the grant ends only by not being used."""
    anew = provider(refresh_lifetime="30d", refresh_lifetime_anchor="issue", refresh_idle_timeout="60d").facts
    fixed = provider(refresh_lifetime="30d").facts
    counted = provider(refresh_lifetime_anchor="consent").facts

    assert (anew.refresh_lifetime, anew.refresh_idle_timeout) == (None, timedelta(days=30))
    assert anew.refresh_anchor is Anchor.ISSUE
    assert (fixed.refresh_lifetime, fixed.refresh_anchor) == (timedelta(days=30), Anchor.CONSENT)
    assert (counted.refresh_lifetime, counted.refresh_anchor) == (None, Anchor.CONSENT)
    assert provider().facts.refresh_anchor is None


def test_a_rate_of_the_provider_is_that_of_clients_without_one() -> None:
    """A client's own rate counts before it."""
    limited = {"limits": {"refreshes_per_client": "10/m"}}

    assert client(limited).limits.rate_per_second == pytest.approx(1 / 6)
    assert client(limited, rate="2/s").limits.rate_per_second == 2


OPERATOR = {
    **TENANT,
    "issuer": "https://{tenant}.acme.example/v2",
    "placeholders": {"tenant": {"pattern": "[a-z0-9.-]+"}},
}


def test_the_operator_fills_placeholders_for_each_client() -> None:
    """Addresses and the issuer hold what the client says; the provider itself stays a template."""
    filled = client(OPERATOR, placeholders={"tenant": "contoso"}).provider

    assert filled.token_endpoint == "https://contoso.acme.example/t"
    assert filled.authorization_endpoint == "https://contoso.acme.example/a"
    assert filled.issuer == "https://contoso.acme.example/v2"
    assert registry({**ACME, **OPERATOR}).providers["acme"].token_endpoint == "https://{tenant}.acme.example/t"


def test_a_default_stands_for_what_the_operator_leaves_out() -> None:
    """The pattern's group is what is filled in, in a default as anywhere."""
    placeholders = {
        "tenant": {"pattern": "(?:https://)?([a-z]+)/?", "default": "https://common/", "description": "who"}
    }

    assert client({**TENANT, "placeholders": placeholders}).provider.token_endpoint == "https://common.acme.example/t"
    chosen = client({**TENANT, "placeholders": placeholders}, placeholders={"tenant": "https://contoso/"})
    assert chosen.provider.token_endpoint == "https://contoso.acme.example/t"


@pytest.mark.parametrize(
    ("table", "given", "problem"),
    [
        (OPERATOR, {}, "placeholders.tenant is missing"),
        (OPERATOR, {"tenant": "Contoso"}, "placeholders.tenant: 'Contoso' is not of the form [a-z0-9.-]+"),
        (OPERATOR, {"tennant": "x"}, "unknown placeholder 'tennant' (did you mean 'tenant'?)"),
        (OPERATOR, {"tenant": ".."}, "placeholders.tenant, which stands in authorization_endpoint: the value does"),
        (
            {**TENANT, "placeholders": {"tenant": {}}},
            {"tenant": "evil.example/"},
            "the value does not fit there: it would change the address",
        ),
        (
            OPERATOR,
            {"tenant": "a" * 64},
            "the value does not fit there: it would change the address, or is empty or too",
        ),
        (OPERATOR, {"tenant": "a."}, "the value does not fit there"),
        ({**TENANT, "placeholders": {"tenant": {}}}, {"tenant": "a@b"}, "is not of the form of letters, digits"),
        ({**TENANT, "placeholders": {"tenant": {"description": "your subdomain"}}}, {}, "is missing: your subdomain"),
        ({}, {"tenant": "x"}, "unknown placeholder 'tenant'"),
    ],
)
def test_a_placeholder_that_would_lead_elsewhere_is_refused(
    table: Mapping[str, Any], given: Mapping[str, str], problem: str
) -> None:
    """Missing, misspelt and misshapen values stop the start, each with one line."""
    assert problem in complaint(table, keep="access", placeholders=given)
