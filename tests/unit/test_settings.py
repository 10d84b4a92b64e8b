"""Settings from the environment: names, files, contradictions, and messages without secrets."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path

import pytest

from worker.domain.errors import ConfigurationError
from worker.domain.secret import Secret
from worker.settings import DEFAULT_HOME, DEFAULT_PUBLIC_URL, Settings, load_settings

DATABASE = "postgresql://evergrant:hunter2@db.example/evergrant"


def complaint(environment: Mapping[str, str]) -> str:
    """Return the one line with which an environment is refused; its traceback shows no secret either."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings(environment)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_nothing_set_gives_the_defaults() -> None:
    """An empty environment is enough to begin with, and variables of others are none of ours."""
    loaded = load_settings({"PATH": "/bin", "DATABASE_URL": "x", "XEVERGRANT_KEYS": "y"})

    assert loaded == Settings()
    assert (loaded.database_url, loaded.broker_url, loaded.keys, loaded.config) == (None, None, None, None)
    assert (loaded.home_dir, loaded.public_url) == (DEFAULT_HOME, DEFAULT_PUBLIC_URL)
    assert (loaded.log_format, loaded.log_level, loaded.metrics_port) == (None, "info", None)


def test_every_setting_is_read() -> None:
    """Each variable arrives in its field, and those that hold secrets as secrets."""
    loaded = load_settings(
        {
            "EVERGRANT_DATABASE_URL": DATABASE,
            "EVERGRANT_BROKER_URL": "redis://:hunter2@broker.example/0",
            "EVERGRANT_KEYS": "k1:hunter2",
            "EVERGRANT_CONFIG": "/etc/evergrant.toml",
            "EVERGRANT_HOME_DIR": "/var/lib/evergrant",
            "EVERGRANT_PUBLIC_URL": "https://tokens.example/base",
            "EVERGRANT_SMTP_URL": "smtp://user:hunter2@mail.example",
            "EVERGRANT_MAIL_FROM": "tokens@example.com",
            "EVERGRANT_LOG_FORMAT": "console",
            "EVERGRANT_LOG_LEVEL": "debug",
            "EVERGRANT_METRICS_PORT": "9100",
        }
    )

    assert loaded.require_database() == Secret(DATABASE)
    assert loaded.require_broker() == Secret("redis://:hunter2@broker.example/0")
    assert loaded.require_keys() == Secret("k1:hunter2")
    assert loaded.smtp_url == Secret("smtp://user:hunter2@mail.example")
    assert (loaded.config, loaded.home_dir) == (Path("/etc/evergrant.toml"), Path("/var/lib/evergrant"))
    assert (loaded.public_url, loaded.mail_from) == ("https://tokens.example/base", "tokens@example.com")
    assert (loaded.log_format, loaded.log_level, loaded.metrics_port) == ("console", "debug", 9100)
    assert "hunter2" not in f"{loaded!r} {loaded}"


def test_every_setting_may_stand_in_a_file(tmp_path: Path) -> None:
    """NAME_FILE gives the path of a file whose content, without space around it, is the value."""
    contents = {
        "DATABASE_URL": DATABASE,
        "BROKER_URL": "redis://broker.example/0",
        "KEYS": "k1:abc",
        "CONFIG": "/etc/evergrant.toml",
        "HOME_DIR": "/var/lib/evergrant",
        "PUBLIC_URL": "https://tokens.example",
        "SMTP_URL": "smtp://mail.example",
        "MAIL_FROM": "tokens@example.com",
        "LOG_FORMAT": "console",
        "LOG_LEVEL": "error",
        "METRICS_PORT": "9100",
    }
    assert {name.lower() for name in contents} == set(Settings.model_fields)
    from_files = {}
    for name, value in contents.items():
        path = tmp_path / name
        path.write_text(f"\n  {value}\n", encoding="utf-8")
        from_files[f"EVERGRANT_{name}_FILE"] = str(path)

    directly = {f"EVERGRANT_{name}": value for name, value in contents.items()}
    assert load_settings(from_files) == load_settings(directly)


def test_an_empty_variable_is_not_set(tmp_path: Path) -> None:
    """Compose files set unused variables to nothing; that is neither a value nor a contradiction."""
    path = tmp_path / "keys"
    path.write_text("k1:abc", encoding="utf-8")

    loaded = load_settings(
        {"EVERGRANT_KEYS": "", "EVERGRANT_KEYS_FILE": str(path), "EVERGRANT_MAIL_FROM": "", "EVERGRANT_NONSENSE": ""}
    )

    assert loaded.require_keys() == Secret("k1:abc")
    assert loaded.mail_from is None


@pytest.mark.parametrize(
    "name",
    ["EVERGRANT_DATABSE_URL", "EVERGRANT_NONSENSE_FILE", "EVERGRANT_", "EVERGRANT_FILE", "EVERGRANT_KEYS_FILE_FILE"],
)
def test_an_unknown_variable_is_named(name: str) -> None:
    """A misspelt variable stops the start instead of being passed over; its value is not shown."""
    assert complaint({name: "hunter2"}) == f"{name} is not a setting; config/example.env lists them all"


@pytest.mark.parametrize("name", ["DATABASE_URL", "KEYS", "PUBLIC_URL", "LOG_LEVEL"])
def test_a_value_and_its_file_contradict_each_other(name: str, tmp_path: Path) -> None:
    """Which of the two would count is not guessed, whether or not the file can be read."""
    message = f"EVERGRANT_{name} and EVERGRANT_{name}_FILE contradict each other; set one of them"

    environment = {f"EVERGRANT_{name}": "hunter2", f"EVERGRANT_{name}_FILE": str(tmp_path / "missing")}
    assert complaint(environment) == message


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    """A file that is missing, a folder or not text is named with the reason, and never with its content."""
    not_text = tmp_path / "latin"
    not_text.write_bytes(b"hunter2 \xff")
    missing = tmp_path / "missing"

    reasons = {missing: "No such file or directory", tmp_path: "Is a directory", not_text: "not UTF-8"}
    for path, reason in reasons.items():
        assert complaint({"EVERGRANT_KEYS_FILE": str(path)}) == f"EVERGRANT_KEYS_FILE: cannot read {path}: {reason}"


@pytest.mark.parametrize(
    "url",
    [
        *["tokens.example", "ftp://tokens.example", "https://", "/base", "https://tokens.example?a=1", "mailto:a@b"],
        *["https://tokens.example/#top", "https://[::1", "https://tokens.example:port", "https://tokens.example:99999"],
        *["https://user:hunter2\u2100@tokens.example", "https://u:[hunter2]@tokens.example"],
    ],
)
def test_a_public_url_that_is_no_base_is_refused(url: str) -> None:
    """Links are built upon it, so it has a scheme and a host and no query; the message names the variable only."""
    assert complaint({"EVERGRANT_PUBLIC_URL": url}) == (
        "EVERGRANT_PUBLIC_URL: is not a base URL such as https://tokens.example"
    )


@pytest.mark.parametrize(
    "url", ["https://tokens.example", "http://127.0.0.1:8080", "https://tokens.example/base/", "http://[::1]:8080"]
)
def test_a_public_url_is_kept_as_given(url: str) -> None:
    """A base URL, with a path or without, is taken as it is, and a port of ours does not replace it."""
    loaded = load_settings({"EVERGRANT_PUBLIC_URL": url})

    assert loaded.public_url == url
    assert loaded.public_url_or(4711) == url
    assert load_settings({}).public_url_or(4711) == "http://127.0.0.1:4711"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LOG_FORMAT", "hunter2"),
        ("LOG_FORMAT", "JSON"),
        ("LOG_LEVEL", "trace"),
        ("METRICS_PORT", "hunter2"),
        ("METRICS_PORT", "9100.5"),
        ("METRICS_PORT", "-1"),
        ("METRICS_PORT", "65536"),
    ],
)
def test_a_value_out_of_its_range_is_refused_by_name(name: str, value: str) -> None:
    """The variable is named, and what it holds is not shown."""
    message = complaint({f"EVERGRANT_{name}": value})

    assert message.startswith(f"EVERGRANT_{name}: Input should be ")


def test_every_wrong_value_is_reported_at_once() -> None:
    """One start shows all values that are wrong."""
    message = complaint({"EVERGRANT_LOG_FORMAT": "xml", "EVERGRANT_METRICS_PORT": "many"})

    assert [part.split(":")[0] for part in message.split("; ")] == ["EVERGRANT_LOG_FORMAT", "EVERGRANT_METRICS_PORT"]


def test_what_is_needed_and_missing_says_what_to_do() -> None:
    """Each missing setting is named with an example or the command that makes it."""
    with pytest.raises(ConfigurationError, match=r"^EVERGRANT_DATABASE_URL is not set; set it, such as postgresql://"):
        Settings().require_database()
    with pytest.raises(ConfigurationError, match=r"^EVERGRANT_BROKER_URL is not set; set it, such as redis://"):
        Settings().require_broker()
    with pytest.raises(ConfigurationError, match=r"^EVERGRANT_KEYS is not set; `evergrant keys generate` makes a key$"):
        Settings().require_keys()


def test_the_example_lists_every_setting() -> None:
    """config/example.env, which messages point at, names each setting once."""
    example = Path(__file__).parents[2] / "config" / "example.env"

    lines = [line.partition("=")[0] for line in example.read_text(encoding="utf-8").splitlines() if "=" in line]
    names = [name.removesuffix("_FILE").removeprefix("EVERGRANT_").lower() for name in lines if name[:1] != "#"]
    assert sorted(names) == sorted(Settings.model_fields)
