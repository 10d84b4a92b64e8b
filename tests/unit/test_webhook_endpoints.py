"""`[webhooks.NAME]`: what is read, and the one line with which a wrong table is refused."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.webhooks import ENVIRONMENT, SECRET
from worker.configuration import load_configuration
from worker.domain.errors import ConfigurationError
from worker.domain.events import EventType
from worker.settings import Settings
from worker.webhooks.endpoint import Endpoint, generate_secret

CLIENT = '[clients.ours]\nprovider = "askara"\nclient_id = "c"\nclient_secret = "env:HOOK_SECRET"\n'
URL = "https://billing.example/hooks/T0KEN"


def load(folder: Path, table: str, **environment: str) -> dict[str, Endpoint]:
    """Write a file with these lines in one endpoint's table, and read it."""
    path = folder / "evergrant.toml"
    path.write_text(f"{CLIENT}[webhooks.billing]\n{table}\n", encoding="utf-8")
    return dict(load_configuration(Settings(config=path), {**ENVIRONMENT, **environment}).webhooks)


def test_an_endpoint_wants_everything_unless_told_otherwise(tmp_path: Path) -> None:
    """An address and a secret are enough; nothing that is printed of an endpoint shows either."""
    [endpoint] = load(tmp_path, f'url = "{URL}"\nsecret = "env:HOOK_SECRET"').values()

    assert (endpoint.name, endpoint.url.reveal(), endpoint.events) == ("billing", URL, frozenset(EventType))
    assert (endpoint.clients, endpoint.timeout, endpoint.max_in_flight) == (None, timedelta(seconds=15), 10)
    assert not endpoint.allow_private_addresses
    assert "T0KEN" not in repr(endpoint)
    assert SECRET not in repr(endpoint)


def test_every_key_is_heeded(tmp_path: Path) -> None:
    """Secrets from a file, the address by reference, types by name and by kind."""
    secret = tmp_path / "hook.whsec"
    secret.write_text(f"{generate_secret(lambda count: b'x' * count).reveal()}\n", encoding="utf-8")
    [endpoint] = load(
        tmp_path,
        f"""
        url = "env:HOOK_URL"
        secret = ["file:{secret}", "env:HOOK_SECRET"]
        events = ["grant.revived", "client.*"]
        clients = ["ours"]
        timeout = "20s"
        max_in_flight = 2
        allow_private_addresses = true
        """,
        HOOK_URL="https://10.1.2.3/hooks",
    ).values()

    assert (endpoint.url.reveal(), len(endpoint.secrets)) == ("https://10.1.2.3/hooks", 2)
    assert endpoint.events == {EventType.GRANT_REVIVED, *(found for found in EventType if found.startswith("client."))}
    assert endpoint.clients == frozenset({"ours"})
    assert (endpoint.timeout, endpoint.max_in_flight) == (timedelta(seconds=20), 2)


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ("", "url is missing; secret is missing"),
        ('url = "{URL}"\nsecret = "env:HOOK_SECRET"\nevent = "*"', "unknown key 'event' (did you mean 'events'?)"),
        ('url = "http://billing.example/"\nsecret = "env:HOOK_SECRET"', "url: must be https:// (http:// is accepted"),
        ('url = "https://10.0.0.5/"\nsecret = "env:HOOK_SECRET"', "url: 10.0.0.5 is a private address; where it is"),
        ('url = "env:NOWHERE"\nsecret = "env:HOOK_SECRET"', "url: environment variable NOWHERE is not set"),
        ('url = "{URL}"\nsecret = "{SECRET}"', "secret must be a reference, env:NAME or file:/path"),
        ('url = "{URL}"\nsecret = []', "secret is empty: it takes a reference"),
        ('url = "{URL}"\nsecret = "env:SHORT"', "secret: env:SHORT does not hold whsec_… with 24 to 64 bytes"),
        ('url = "{URL}"\nsecret = "env:UNMARKED"', "secret: env:UNMARKED does not hold whsec_"),
        ('url = "{URL}"\nsecret = "env:BROKEN"', "secret: env:BROKEN does not hold whsec_"),
        ('url = "{URL}"\nsecret = "env:HOOK_SECRET"\nevents = ["grant.revive"]', "(did you mean 'grant.revived'?)"),
        ('url = "{URL}"\nsecret = "env:HOOK_SECRET"\nevents = []', "events is empty: leave it out for all of them"),
        (
            'url = "{URL}"\nsecret = "env:HOOK_SECRET"\nclients = "our"',
            "clients: 'our' is unknown (did you mean 'ours'?)",
        ),
        ('url = "{URL}"\nsecret = "env:HOOK_SECRET"\ntimeout = "2m"', "timeout: must be at most 30s"),
        ('url = "{URL}"\nsecret = "env:HOOK_SECRET"\nmax_in_flight = 0', "max_in_flight: must be at least 1"),
    ],
)
def test_a_wrong_table_is_refused_by_one_line(tmp_path: Path, table: str, complaint: str) -> None:
    """The line names file, table and key, and what to do; it never shows a secret."""
    secrets = {"SHORT": "whsec_c2hvcnQ=", "UNMARKED": SECRET.removeprefix("whsec_"), "BROKEN": "whsec_" + "?" * 40}
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, table.replace("{URL}", URL).replace("{SECRET}", SECRET), **secrets)

    said = str(caught.value)
    assert said.startswith(f"{tmp_path / 'evergrant.toml'}: [webhooks.billing] ")
    assert complaint in said
    assert "\n" not in said
    assert not any(secret in said for secret in (SECRET, *secrets.values()))


def test_a_name_is_fit_for_labels_and_commands(tmp_path: Path) -> None:
    """What would have to be quoted everywhere is refused."""
    path = tmp_path / "evergrant.toml"
    path.write_text('[webhooks."my hook"]\nurl = "https://a.example"\nsecret = "env:S"\n', encoding="utf-8")
    with pytest.raises(ConfigurationError, match="an endpoint's name has 1 to 64 letters"):
        load_configuration(Settings(config=path), {})
