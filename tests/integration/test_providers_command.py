"""`evergrant providers list` and `show`: what is known of each provider, and how sure it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.loaded_command_line import LoadedCommandLine
from tests.support.providers_command import ACME, QUIRKS, Providers, shipped


@pytest.fixture(scope="module")
def loaded() -> Iterator[LoadedCommandLine]:
    """Load the program once for all tests of this file."""
    with LoadedCommandLine() as found:
        yield found


@pytest.fixture
def providers(loaded: LoadedCommandLine, tmp_path: Path) -> Providers:
    """Give each test a folder with an empty configuration."""
    return Providers(loaded, tmp_path)


def test_the_list_has_every_provider_on_one_line(providers: Providers) -> None:
    """Without a word every provider of the catalogue is listed, once; JSON has the same ones, with their hosts."""
    listed = providers.rows("list")
    assert [row[0] for row in listed] == sorted(shipped())

    found = {entry["name"]: entry for entry in json.loads(providers.run("list", "--json").out)}
    assert set(found) == shipped()
    assert found["askara"]["hosts"] == ["app.askara.loc", "api.askara.ai"]


@pytest.mark.parametrize("word", ["acme", "ACME", "works", "refresh.acme", "login.acme.example"])
def test_the_list_is_searched_by_name_and_host(providers: Providers, word: str) -> None:
    """A part of the name, the display name or any endpoint's host finds a provider, in upper or lower case."""
    providers.write(ACME, QUIRKS)

    assert providers.rows("list", word) == [
        ["acme", "Acme Works", "always", "grace", "client_secret_post", "yours"],
    ]


def test_the_list_says_how_sure_it_is(providers: Providers) -> None:
    """Facts out of documentation, overridden ones and a deployment's own are told apart; an unknown one says so."""
    [askara] = providers.rows("list", "askara")
    assert askara == ["askara", "Askara", "always", "invalidated", "client_secret_post", "docs"]

    providers.write("[providers.askara]\nrotation = 'sometimes'\ninferred = ['client_auth']\n", ACME)
    rows = {row[0]: row for row in providers.rows("list", "a")}
    assert (rows["askara"][2], rows["askara"][-1]) == ("sometimes", "1 inferred + yours")
    assert rows["acme"][2:] == ["unknown", "unknown", "client_secret_basic", "yours"]


def test_a_provider_that_is_not_refreshed_has_no_rotation(providers: Providers) -> None:
    """Where the access token itself is exchanged, or never ends, the list says that in the place of a rotation."""
    providers.write(ACME, 'style = "no_refresh"\n')

    [row] = providers.rows("list", "acme")
    assert row[2:4] == ["no_refresh", "-"]


def test_a_word_that_nothing_has_is_said(providers: Providers) -> None:
    """A search without a result fails with one line, which names the nearest provider."""
    ended = providers.run("list", "askra")

    assert (ended.code, ended.out) == (1, "")
    said = "evergrant: no provider has 'askra' in its name or its hosts (did you mean 'askara'?)\n"
    assert ended.err == said


def test_show_marks_each_fact(providers: Providers) -> None:
    """Certain, inferred, overridden, default and unknown are told apart, and the catalogue's own value stays seen."""
    providers.write(
        '[providers.askara]\nauthorization_endpoint = "https://login.askara.example/authorize"\nstrikes = 3\n'
        'inferred = ["client_auth"]\n'
    )
    facts = {key: (known, value) for key, known, value in providers.rows("show", "askara")}

    assert facts["token_endpoint"] == ("certain", "https://api.askara.ai/oauth2/token")
    assert facts["client_auth"] == ("inferred", "client_secret_post")
    assert facts["authorization_endpoint"] == (
        "yours",
        "https://login.askara.example/authorize (the catalogue has https://app.askara.loc/authorize)",
    )
    assert facts["strikes"] == ("yours", "3")
    assert facts["request_timeout"] == ("default", "20s")
    assert facts["refresh_lifetime"] == ("unknown", "unknown")
    assert facts["scope_separator"] == ("certain", '" "')
    assert any(key.startswith("sources.") and known == "-" for key, (known, _) in facts.items())


def test_show_writes_every_quirk_out(providers: Providers) -> None:
    """Sub-tables are shown by their whole paths, rules as sentences, the short way to write parameters as the long."""
    providers.write(ACME, QUIRKS)
    facts = {row[0]: row[-1] for row in providers.rows("show", "acme")}

    assert facts["refresh.endpoint"] == "https://refresh.acme.example/{tenant}/again"
    assert (facts["refresh.params.lifetime"], facts["refresh.params.long"]) == ("3600", "true")
    assert facts["authorize.params.prompt"] == "consent"
    assert facts["placeholders.tenant.default"] == "main"
    assert facts["answer.path"] == "data"
    assert facts["errors.1"] == "status 400, 403, meta.code is 17: dead"
    assert facts["errors.2"] == "the description matches (?i)slow down: throttled, wait 10m"
    assert facts["reuse_grace"] == "30s"


def test_show_as_json_has_the_facts_and_the_marks(providers: Providers) -> None:
    """`--json` has every key of the schema, null for what is unknown, and beside them how each fact is known."""
    providers.write("[providers.askara]\nstrikes = 3\n")
    found = json.loads(providers.run("show", "askara", "--json").out)

    assert (found["name"], found["rotation"], found["refresh_lifetime"]) == ("askara", "always", None)
    known = found["known"]
    assert (known["rotation"], known["strikes"], known["pkce"]) == ("certain", "yours", "unknown")


@pytest.mark.parametrize("command", ["show", "check"])
def test_a_provider_that_nobody_knows_is_named(providers: Providers, command: str) -> None:
    """An unknown name is wrong use, and the nearest known one is suggested."""
    ended = providers.run(command, "askarra")

    assert (ended.code, ended.out) == (2, "")
    said = "evergrant: provider 'askarra' is unknown (did you mean 'askara'?); `evergrant providers list` shows all\n"
    assert ended.err == said
