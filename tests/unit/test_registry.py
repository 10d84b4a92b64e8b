"""Providers and clients of a deployment: the catalogue's facts overridden, and secrets found by reference."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from worker.domain.allowance import ClientLimits
from worker.domain.errors import ConfigurationError
from worker.domain.facts import Keep, OldToken
from worker.domain.secret import Secret
from worker.oauth.client import DEFAULT_MAX_IN_FLIGHT, Client
from worker.oauth.provider_steps import ClientAuth
from worker.oauth.registry import Registry, build_registry

CATALOGUE = {
    "acme": {
        "display_name": "Acme",
        "authorization_endpoint": "https://login.acme.example/authorize",
        "token_endpoint": "https://api.acme.example/oauth2/token",
        "client_auth": "client_secret_post",
        "old_token": "invalidated",
        "access_lifetime": "24h",
    }
}
CLIENT = {"provider": "acme", "client_id": "abc", "client_secret": "env:ACME_SECRET"}
SECRET = "hunter2 of acme"


def registry(
    *,
    providers: Mapping[str, Any] | None = None,
    clients: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    public_url: str = "https://tokens.example",
) -> Registry:
    """Build a registry over the small catalogue of this module."""
    return build_registry(
        catalogue=CATALOGUE,
        providers=providers or {},
        clients=clients or {},
        environment={"ACME_SECRET": SECRET} if environment is None else environment,
        public_url=public_url,
    )


def client(environment: Mapping[str, str] | None = None, /, **keys: Any) -> Client:
    """Build `[clients.acme-main]` with these keys beside the usual ones."""
    table = {key: value for key, value in {**CLIENT, **keys}.items() if value is not None}
    return registry(clients={"acme-main": table}, environment=environment).client("acme-main")


def complaint(environment: Mapping[str, str] | None = None, /, **keys: Any) -> str:
    """Return the message with which `[clients.acme-main]` is refused; neither it nor its traceback shows the secret."""
    with pytest.raises(ConfigurationError) as caught:
        client(environment, **keys)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    message = str(caught.value)
    assert message.startswith("[clients.acme-main] ")
    assert "\n" not in message
    return message.removeprefix("[clients.acme-main] ")


def test_the_catalogue_is_overridden_key_by_key() -> None:
    """A key of our own replaces the catalogue's, and every other fact of that provider stays."""
    acme = registry(providers={"acme": {"access_lifetime": "1h", "strikes": 5}}).providers["acme"]

    assert (acme.access_lifetime, acme.strikes) == (timedelta(hours=1), 5)
    assert (acme.display_name, acme.client_auth, acme.old_token) == (
        "Acme",
        ClientAuth.CLIENT_SECRET_POST,
        OldToken.INVALIDATED,
    )


def test_an_override_may_contradict_what_it_does_not_replace() -> None:
    """The merged facts are what is checked: a grace needs its length, wherever each key came from."""
    with pytest.raises(ConfigurationError, match="needs reuse_grace"):
        registry(providers={"acme": {"old_token": "grace"}})

    merged = registry(providers={"acme": {"old_token": "grace", "reuse_grace": "30s"}}).providers["acme"]
    assert merged.facts.reuse_grace == timedelta(seconds=30)


def test_a_provider_of_ones_own_stands_beside_the_catalogue() -> None:
    """New providers and those of the catalogue are found by name, in order."""
    own = {"authorization_endpoint": "http://127.0.0.1:9/a", "token_endpoint": "http://127.0.0.1:9/t"}

    assert list(registry(providers={"zeta": own, "aaa": own}).providers) == ["aaa", "acme", "zeta"]


@pytest.mark.parametrize("table", ["https://acme.example", 7, ["x"], True])
def test_a_provider_that_is_no_table_is_refused(table: object) -> None:
    """A value where a table belongs is named, whether it overrides a known provider or adds one."""
    for name in ("acme", "new"):
        with pytest.raises(
            ConfigurationError, match=rf"^\[providers\] '{name}' is no table: each of the providers has"
        ):
            registry(providers={name: table})


def test_a_client_that_is_no_table_is_refused() -> None:
    """A value where a client's table belongs is named."""
    with pytest.raises(ConfigurationError, match=r"^\[clients\] 'acme-main' is no table: each of the clients has one"):
        registry(clients={"acme-main": "acme"})


def test_an_unknown_provider_is_named_with_the_nearest() -> None:
    """A client of a provider that is not there is an error that says which one was probably meant."""
    assert complaint(provider="acmee") == "provider 'acmee' is unknown (did you mean 'acme'?)"
    assert complaint(provider="zzz") == "provider 'zzz' is unknown (known: acme)"


def test_an_unknown_client_is_named_with_the_nearest() -> None:
    """Asking for a client that is not configured says which one was probably meant."""
    known = registry(clients={"acme-main": CLIENT})

    with pytest.raises(ConfigurationError, match=r"client 'acme-mian' is not configured \(did you mean 'acme-main'\?"):
        known.client("acme-mian")
    with pytest.raises(ConfigurationError, match=r"client 'x' is not configured$"):
        registry().client("x")


def test_an_unknown_key_of_a_client_is_named_with_the_nearest() -> None:
    """A misspelt key does not show its value, which may be the secret itself."""
    assert complaint(client_secert="hunter2") == "unknown key 'client_secert' (did you mean 'client_secret'?)"


def test_secrets_from_the_environment_and_from_files(tmp_path: Path) -> None:
    """References are resolved in the order they are written, which is the order they are tried in."""
    previous = tmp_path / "previous"
    previous.write_text("  the previous one\n", encoding="utf-8")

    both = client(client_secret=["env:ACME_SECRET", f"file:{previous}"])

    assert both.client_secrets == (Secret(SECRET), Secret("the previous one"))
    assert client(client_secret="env:ACME_SECRET").client_secrets == (Secret(SECRET),)


@pytest.mark.parametrize("environment", [{}, {"ACME_SECRET": ""}, {"acme_secret": "hunter2"}])
def test_a_missing_variable_is_named(environment: Mapping[str, str]) -> None:
    """A variable that is unset or empty is named."""
    assert complaint(environment) == "client_secret: environment variable ACME_SECRET is not set"


def test_a_secret_that_is_not_utf_8_is_refused_at_the_start() -> None:
    """A variable that Python could not decode would fail at each refresh, and look like the grants' fault."""
    odd = b"hunter2 \xff".decode("utf-8", "surrogateescape")

    assert complaint({"ACME_SECRET": odd}) == "client_secret: environment variable ACME_SECRET is not UTF-8"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot read {path}: No such file or directory"),
        (b"", "{path} is empty"),
        (b" \n\t\n", "{path} is empty"),
        (b"hunter2 \xff\xfe", "cannot read {path}: not UTF-8"),
        (b"hunter2" * 10_000, "{path} is too long for a secret"),
    ],
    ids=["missing", "empty", "blank", "not UTF-8", "too long"],
)
def test_a_file_without_a_secret_is_named(tmp_path: Path, content: bytes | None, problem: str) -> None:
    """A file that cannot be a secret stops the start with its path and the reason."""
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)

    assert complaint(client_secret=f"file:{path}") == f"client_secret: {problem.format(path=path)}"


def test_a_folder_is_no_secret(tmp_path: Path) -> None:
    """A reference to a folder stops the start with the system's reason."""
    assert complaint(client_secret=f"file:{tmp_path}") == f"client_secret: cannot read {tmp_path}: Is a directory"


@pytest.mark.parametrize("literal", ["hunter2", "Env:hunter2", "env:", "file:", ":hunter2", "hunter2:env", "", "env"])
def test_a_literal_secret_is_refused_and_not_shown(literal: str) -> None:
    """The file is no place for a secret; the refusal says how to refer to it and does not repeat it."""
    problem = "client_secret must be a reference, env:NAME or file:/path, not the secret itself"

    assert complaint(client_secret=literal) == problem
    assert complaint(client_secret=["env:ACME_SECRET", literal]) == problem


@pytest.mark.parametrize(
    "value", [7, {"env": "hunter2"}, [["hunter2"]], ["env:ACME_SECRET", 7], [{"value": "hunter2"}]]
)
def test_a_secret_of_another_type_is_refused_and_not_shown(value: object) -> None:
    """What is neither a reference nor a list of them is refused by the key's name."""
    assert complaint(client_secret=value).startswith("client_secret")


@pytest.mark.parametrize("absent", [None, []])
def test_a_client_that_authenticates_needs_a_secret(absent: list[str] | None) -> None:
    """Without a secret only a public client is accepted."""
    assert complaint(client_secret=absent) == (
        "client_secret is missing: provider 'acme' authenticates with client_secret_post"
    )

    public = {"provider": "acme", "client_id": "abc"}
    built = registry(providers={"acme": {"client_auth": "none"}}, clients={"public": public})
    assert built.client("public").client_secrets == ()


def test_what_is_left_out_has_its_default() -> None:
    """The callback of this deployment, the access token kept fresh, no rate and half a window."""
    plain = client()

    assert plain.redirect_uri == "https://tokens.example/oauth/callback"
    assert (plain.scopes, plain.keep) == ((), Keep.ACCESS)
    assert plain.limits == ClientLimits(rate_per_second=None, max_in_flight=DEFAULT_MAX_IN_FLIGHT)
    base = registry(clients={"acme-main": CLIENT}, public_url="https://tokens.example/base/").client("acme-main")
    assert base.redirect_uri == "https://tokens.example/base/oauth/callback"


def test_what_is_configured_is_used() -> None:
    """Each key of a client arrives where it is used."""
    full = client(
        redirect_uri="http://localhost:8080/cb", scopes=["a", "b"], keep="refresh", rate="600/m", max_in_flight=7
    )

    assert (full.redirect_uri, full.scopes, full.keep) == ("http://localhost:8080/cb", ("a", "b"), Keep.REFRESH)
    assert full.limits == ClientLimits(rate_per_second=10.0, max_in_flight=7)


@pytest.mark.parametrize(
    ("rate", "per_second"), [("10/s", 10.0), ("0.5/s", 0.5), (" 90 / m ", 1.5), ("1/h", 1 / 3600), (2.5, 2.5), (3, 3.0)]
)
def test_rates(rate: object, per_second: float) -> None:
    """A rate is a number per second, minute or hour; a plain number is per second."""
    assert client(rate=rate).limits.rate_per_second == pytest.approx(per_second)


@pytest.mark.parametrize(
    "rate", ["0/s", "-1/s", "10", "10/d", "10 per s", "1e3/s", "", 0, -1, float("nan"), float("inf"), ["10/s"]]
)
def test_a_rate_that_would_never_or_always_allow_is_refused(rate: object) -> None:
    """Zero, a negative, an infinite and an unreadable rate are refused by the key's name."""
    assert complaint(rate=rate).startswith("rate: ")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("client_id", ""),
        ("client_id", None),
        ("provider", None),
        ("keep", "forever"),
        ("max_in_flight", 0),
        ("max_in_flight", 100_001),
        ("redirect_uri", "http://tokens.example/cb"),
        ("redirect_uri", "tokens.example/cb"),
        ("scopes", "profile organization"),
    ],
)
def test_a_wrong_value_of_a_client_is_refused_by_name(key: str, value: object) -> None:
    """Each wrong or missing value is refused with its key."""
    assert complaint(**{key: value}).startswith(key)


def test_neither_registry_nor_client_shows_a_secret() -> None:
    """Printing what holds the secrets does not show them."""
    built = registry(clients={"acme-main": CLIENT})

    assert "hunter2" not in f"{built!r} {built.client('acme-main')!r}"
