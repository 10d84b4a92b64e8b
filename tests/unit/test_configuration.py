"""The configuration file: what is read, and the one line with which a wrong one is refused."""

from __future__ import annotations

import tomllib
import traceback
from datetime import timedelta
from pathlib import Path

import pytest

from worker.configuration import Configuration, WorkerLimits, load_configuration
from worker.domain.errors import ConfigurationError
from worker.settings import Settings
from worker.webhooks.endpoint import EndpointEntry, generate_secret

CLIENT = """
[clients.askara-main]
provider = "askara"
client_id = "abc"
client_secret = ["env:ASKARA_SECRET", "env:ASKARA_PREVIOUS"]
"""
ENVIRONMENT = {"ASKARA_SECRET": "hunter2", "ASKARA_PREVIOUS": "hunter3"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give the path of a configuration file that is not there yet."""
    return tmp_path / "evergrant.toml"


def load(path: Path, text: str | bytes) -> Configuration:
    """Write the file and read the configuration."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_configuration(Settings(config=path), ENVIRONMENT)


def complaint(path: Path, text: str | bytes) -> str:
    """Return the one line with which the file is refused; neither it nor its traceback shows a secret."""
    with pytest.raises(ConfigurationError) as caught:
        load(path, text)
    assert "hunter" not in "".join(traceback.format_exception(caught.value))
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message.replace(str(path), "FILE")


def test_clients_stand_on_the_catalogue(path: Path) -> None:
    """A client of a catalogue provider needs nothing else, and overrides reach it."""
    loaded = load(path, CLIENT + '[providers.askara]\nstrikes = 4\n[worker]\ntick = "2s"\nlease = "2m"\n')

    client = loaded.registry.client("askara-main")
    assert client.provider.token_endpoint == "https://api.askara.ai/oauth2/token"
    assert client.provider.strikes == 4
    assert len(client.client_secrets) == 2
    assert (loaded.worker.tick, loaded.worker.lease) == (timedelta(seconds=2), timedelta(minutes=2))


def test_whoever_only_describes_needs_no_secret(path: Path) -> None:
    """Without an environment no reference is followed, and all else is checked; with one that lacks it, it is."""
    path.write_text(CLIENT)

    described = load_configuration(Settings(config=path), None).registry.client("askara-main")

    assert [secret.reveal() for secret in described.client_secrets] == ["", ""]
    with pytest.raises(ConfigurationError, match="environment variable ASKARA_SECRET is not set"):
        load_configuration(Settings(config=path), {})
    path.write_text(CLIENT + "[worker]\nlease = '30s'\n")
    with pytest.raises(ConfigurationError, match="is too short: a refresh for client 'askara-main' may take 40 s"):
        load_configuration(Settings(config=path), None)


def test_without_a_file_there_is_the_catalogue_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no file is named and none lies in its default place, no client is configured."""
    monkeypatch.chdir(tmp_path)

    loaded = load_configuration(Settings(), {})

    assert loaded.worker == WorkerLimits()
    assert "askara" in loaded.registry.providers
    assert not loaded.registry.clients


def test_the_file_in_its_default_place_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`config/evergrant.toml` is read without being named."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "evergrant.toml").write_text(CLIENT, encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    assert list(load_configuration(Settings(), ENVIRONMENT).registry.clients) == ["askara-main"]


def test_the_example_is_valid() -> None:
    """config/evergrant.example.toml loads as it is shipped."""
    example = Path(__file__).parents[2] / "config" / "evergrant.example.toml"

    loaded = load_configuration(Settings(config=example), {"ASKARA_CLIENT_SECRET": "hunter2"})

    assert list(loaded.registry.clients) == ["askara-main"]
    assert loaded.worker == WorkerLimits()


def test_the_examples_webhook_is_valid(path: Path) -> None:
    """Its table stands there as a comment; without the marks every key of it is taken."""
    example = (Path(__file__).parents[2] / "config" / "evergrant.example.toml").read_text("utf-8")
    table = example[example.index("# [webhooks.billing]") :].partition("\n\n")[0].replace("# ", "", 1)
    path.write_text(CLIENT + table.replace("\n# ", "\n"), "utf-8")

    secret = {"BILLING_WEBHOOK_SECRET": generate_secret(lambda count: b"x" * count).reveal()}
    loaded = load_configuration(Settings(config=path), {**ENVIRONMENT, **secret})

    [endpoint] = loaded.webhooks.values()
    assert set(tomllib.loads(path.read_text("utf-8"))["webhooks"]["billing"]) == set(EndpointEntry.model_fields)
    assert endpoint.clients == frozenset({"askara-main"})


def test_a_named_file_that_cannot_be_read_is_an_error(path: Path) -> None:
    """A missing file and a folder are named with the system's reason, and never quietly passed over."""
    for unreadable, reason in ((path, "No such file or directory"), (path.parent, "Is a directory")):
        with pytest.raises(ConfigurationError) as caught:
            load_configuration(Settings(config=unreadable), {})
        assert str(caught.value) == f"cannot read the configuration {unreadable}: {reason}"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[clients\n", "line 1"),
        ('a = "b"\nclient_secret = hunter2\n', "line 2"),
        ("[worker]\n[worker]\n", "line 2"),
        ('{"clients": {}}', "line 1"),
        (b"a = '\xff'\n", "position 5"),
    ],
)
def test_what_is_not_toml_is_refused_with_its_place(path: Path, text: str | bytes, place: str) -> None:
    """The message says where reading stopped, and shows nothing of the line."""
    message = complaint(path, text)

    assert message.startswith("FILE is not TOML: ")
    assert place in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[client.a]\n", "[client] (did you mean 'clients'?)"),
        ("[provider.x]\n", "[provider] (did you mean 'providers'?)"),
        ("lease = '60s'\n", "[lease] (known: clients, mails, providers, sign_in, web, webhooks, worker)"),
        ("[[workers]]\n", "[workers] (did you mean 'worker'?)"),
    ],
)
def test_an_unknown_table_is_named(path: Path, text: str, said: str) -> None:
    """A misspelt table is refused with the nearest one, or with all that are known."""
    assert complaint(path, text) == f"FILE: unknown table {said}"


@pytest.mark.parametrize("name", ["providers", "clients"])
@pytest.mark.parametrize("value", ['"hunter2"', "7", "[1]"])
def test_a_value_where_tables_belong_is_refused(path: Path, name: str, value: str) -> None:
    """`providers` and `clients` are tables of tables, and the message shows how one is written."""
    assert complaint(path, f"{name} = {value}\n") == f"FILE: [{name}] must be a table of tables, such as [{name}.acme]"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("worker = 7\n", "FILE: [worker] must be a table"),
        ('[worker]\nlaese = "60s"\n', "FILE: [worker] unknown key 'laese' (did you mean 'lease'?)"),
        ("[worker]\nmax_in_flight = 0\n", "FILE: [worker] max_in_flight: must be at least 1"),
        (
            '[worker]\ntick = "1"\n',
            (
                "FILE: [worker] tick: '1' is not a duration; "
                "write a number and a unit (ms, s, m, h, d), such as 30s or 24h"
            ),
        ),
        ('[worker]\nkeep_rotations = "59m"\n', "FILE: [worker] keep_rotations: must be at least 1h"),
        ('[worker]\ndrain_time = "0s"\n', "FILE: [worker] drain_time: must be longer than 0s and at most 3650d"),
        (
            "providers.acme = 7\n",
            "FILE: [providers] 'acme' is no table: each of the providers has one of its own, such as [providers.acme]",
        ),
        ("[[clients.acme]]\nprovider = 'acme'\n", "FILE: [[clients.acme]] must be one table, written [clients.acme]"),
        (
            '[clients.a]\nprovider = "askra"\nclient_id = "x"\n',
            "FILE: [clients.a] provider 'askra' is unknown (did you mean 'askara'?)",
        ),
        (
            '[clients.a]\nprovider = "askara"\nclient_id = "x"\nclient_secret = "hunter2"\n',
            "FILE: [clients.a] client_secret must be a reference, env:NAME or file:/path, not the secret itself",
        ),
        (
            '[clients.a]\nprovider = "askara"\nclient_id = "x"\nclient_secret = "env:NOPE"\n',
            "FILE: [clients.a] client_secret: environment variable NOPE is not set",
        ),
    ],
)
def test_a_wrong_key_is_refused_with_file_table_and_key(path: Path, text: str, problem: str) -> None:
    """One line names the file, the table and the key, and says what is wrong."""
    assert complaint(path, text) == problem


def test_a_lease_that_a_request_outlives_is_refused(path: Path) -> None:
    """Two secrets may cost two requests of 20 s, and 10 s must be left to settle; the client is named."""
    assert complaint(path, CLIENT + '[worker]\nlease = "49s"\n') == (
        "FILE: [worker] lease of 49 s is too short: a refresh for client 'askara-main' may take 40 s, "
        "and a lease must outlive it by 10 s"
    )
    assert load(path, CLIENT + '[worker]\nlease = "50s"\n').worker.lease == timedelta(seconds=50)


def test_the_lease_is_measured_against_each_client(path: Path) -> None:
    """A provider's longer time limit counts for its clients, and a provider without clients for nobody."""
    slow = '[providers.askara]\nrequest_timeout = "60s"\n[worker]\nlease = "2m"\n'

    assert "client 'askara-main' may take 120 s" in complaint(path, CLIENT + slow)
    assert load(path, slow).worker.lease == timedelta(minutes=2)
