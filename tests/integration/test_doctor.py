"""`evergrant doctor` before real parts, whole ones and broken ones: what is wrong is named with its remedy."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.conftest import WebMaker
from tests.support.certificates import certificate
from tests.support.installation import Installation, installed
from tests.support.issuer import running_issuer
from tests.support.mail_server import MailServer
from worker.doctor.database import table_findings
from worker.doctor.examination import examine
from worker.doctor.finding import Level
from worker.doctor.secret_files import check_files
from worker.embedded.startup import free_loopback_port
from worker.settings import Settings
from worker.storage.sealing import generate_key

_SELF_SIGNED = """
[providers.private]
authorization_endpoint = "https://127.0.0.1:{port}/authorize"
token_endpoint = "https://127.0.0.1:{port}/token"
[clients.self-signed]
provider = "private"
client_id = "abc"
client_secret = "env:CLIENT_SECRET"
"""

_ISSUED = """
[providers.issued]
issuer = "{issuer}"
authorization_endpoint = "{issuer}/authorize"
token_endpoint = "{issuer}/token"
[clients.issued]
provider = "issued"
client_id = "abc"
client_secret = "env:CLIENT_SECRET"
"""


@pytest.fixture(scope="module")
def installation(
    tmp_path_factory: pytest.TempPathFactory, database_server: str, migrated_template: str
) -> Iterator[Installation]:
    """Set up one client, a database and a key ring."""
    with installed(tmp_path_factory.mktemp("doctor"), database_server, migrated_template) as ready:
        yield ready


def examined(installation: Installation, **changes: str | None) -> tuple[int, dict[str, dict[str, Any]]]:
    """Run the command and return its exit code and the findings by what was looked at, the worst one of each."""
    ended = installation.run_quickly("doctor", "--json", changes=changes)
    order = ["error", "warning", "ok"]
    findings = sorted(json.loads(ended.out), key=lambda one: order.index(one["level"]), reverse=True)
    assert all((one["remedy"] is None) == (one["level"] == "ok") for one in findings)
    return ended.code, {one["check"]: one for one in findings}


def test_a_whole_installation_has_nothing_to_mend(
    installation: Installation, make_web: WebMaker, broker_url: str
) -> None:
    """With every part there, nothing is an error; what was asked of the provider spent nothing."""
    spent = installation.sandbox.control.report().refreshes_presented
    with MailServer() as mail, make_web("") as web:
        code, findings = examined(
            installation,
            EVERGRANT_BROKER_URL=broker_url,
            EVERGRANT_PUBLIC_URL=web.url,
            EVERGRANT_SMTP_URL=f"smtp://127.0.0.1:{mail.port}",
            EVERGRANT_MAIL_FROM="tokens@example.com",
        )
        assert mail.received == []

    errors = {name: one for name, one in findings.items() if one["level"] == "error"}
    # The tests' PostgreSQL does not wait for the disk, and doctor is right to say so.
    assert set(errors) == {"durability"}
    assert code == 1
    fine = ("broker", "keys", "schema", "clock", "autovacuum", f"mail server 127.0.0.1:{mail.port}")
    assert {findings[name]["level"] for name in fine} == {"ok"}
    assert findings[f"client {installation.client}"]["found"] == "127.0.0.1 is reached"
    assert findings["workers"]["remedy"] == "start `evergrant worker`"
    assert installation.sandbox.control.report().refreshes_presented == spent


def test_parts_that_are_away_are_named(installation: Installation) -> None:
    """A database, broker, mail server and web process that do not answer are four findings, and no traceback."""
    port = free_loopback_port()
    parts = urlsplit(installation.database_url)
    code, findings = examined(
        installation,
        EVERGRANT_DATABASE_URL=installation.database_url.replace(str(parts.port), str(port)),
        EVERGRANT_BROKER_URL=f"redis://:not-shown@127.0.0.1:{port}/0",
        EVERGRANT_SMTP_URL=f"smtp://127.0.0.1:{port}",
        EVERGRANT_MAIL_FROM="tokens@example.com",
        EVERGRANT_PUBLIC_URL=f"http://127.0.0.1:{port}",
    )

    assert code == 1
    bad = {name for name, one in findings.items() if one["level"] == "error"}
    assert bad == {"database", "broker", f"mail server 127.0.0.1:{port}"}
    assert "check EVERGRANT_DATABASE_URL" in findings["database"]["remedy"]
    assert findings["public URL"]["level"] == "warning"


def test_files_that_others_can_read_are_named(installation: Installation, tmp_path: Path) -> None:
    """The key file and the folder are judged by their permissions, and the remedy is a command."""
    keys = tmp_path / "keys"
    keys.write_text(installation.keys.reveal())
    keys.chmod(0o644)
    code, findings = examined(installation, EVERGRANT_KEYS=None, EVERGRANT_KEYS_FILE=str(keys))
    assert code == 1
    assert findings[f"permissions of {keys}"]["remedy"] == f"chmod o= {keys}"

    keys.chmod(0o600)
    nowhere = tmp_path / "a-file"
    nowhere.write_text("")
    _, findings = examined(
        installation, EVERGRANT_KEYS=None, EVERGRANT_KEYS_FILE=str(keys), EVERGRANT_HOME_DIR=str(nowhere / "home")
    )
    assert findings[f"permissions of {keys}"]["level"] == "ok"
    assert findings["EVERGRANT_HOME_DIR"]["level"] == "error"


def test_a_folder_that_is_not_there_is_told_and_not_made(tmp_path: Path) -> None:
    """Whoever only looks makes no folder: it is said that there is none, and whether it could be made."""
    home = tmp_path / "not" / "there"
    [found] = check_files({}, Settings(home_dir=home), None)
    assert (found.level, "is not there yet" in found.found) == (Level.OK, True)
    assert list(tmp_path.iterdir()) == []

    (tmp_path / "not").write_text("")
    [found] = check_files({}, Settings(home_dir=home), None)
    assert (found.level, f"cannot be made in {tmp_path / 'not'}" in found.found) == (Level.ERROR, True)
    assert f"mkdir -p {home}" in (found.remedy or "")

    home = tmp_path / "there"
    home.mkdir(mode=0o700)
    [found] = check_files({}, Settings(home_dir=home), None)
    assert str(home) in found.found
    assert list(home.iterdir()) == []


def test_a_wrong_setting_schema_and_key_are_named(installation: Installation, empty_database_url: str) -> None:
    """A typo, a database that was not migrated and a ring that lacks a key each come with what to run."""
    code, findings = examined(installation, EVERGRANT_DATABSE_URL="x")
    assert (code, list(findings)) == (1, ["settings"])
    assert "EVERGRANT_DATABSE_URL is not a setting" in findings["settings"]["found"]

    _, findings = examined(installation, EVERGRANT_DATABASE_URL=empty_database_url)
    assert findings["schema"]["remedy"].startswith("run `evergrant db upgrade`")

    installation.adopt(installation.seed())
    assert installation.run_quickly("clients", "list").code == 0
    _, findings = examined(installation, EVERGRANT_KEYS=generate_key("k9", os.urandom).reveal())
    assert "lacks the key 'k1'" in findings["keys"]["found"]
    assert [row[0] for row in installation.query("SELECT id FROM sealing_keys")] == ["k1"]  # it has noted nothing


@pytest.mark.anyio
async def test_a_clock_and_a_certificate_that_are_wrong_are_named(installation: Installation, tmp_path: Path) -> None:
    """A clock that is an hour off is seen by database and provider; a certificate that nobody trusts is an error."""
    environment = installation.command_line.environment
    findings = await examine(environment, lambda: datetime.now(UTC) + timedelta(hours=1))  # noqa: TID251
    told = {one.check: one.found for one in findings}
    assert "behind this machine" in told["clock"]
    assert "clock differs by -36" in told[f"client {installation.client}"]

    serves, _trusts = certificate(tmp_path)
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=serves)
    async with server:
        config = tmp_path / "evergrant.toml"
        config.write_text(_SELF_SIGNED.format(port=server.sockets[0].getsockname()[1]))
        findings = await examine({**environment, "EVERGRANT_CONFIG": str(config)})
    [found] = [one for one in findings if one.check == "client self-signed"]
    assert (found.level, "certificate" in found.found.lower()) == ("error", True)
    assert "SSL_CERT_FILE" in (found.remedy or "")


def test_tables_are_judged_by_their_statistics() -> None:
    """Dead rows, and updates of a client's row that were not HOT, are warnings once there are enough of them."""
    fine = {"name": "client_status", "live": 10, "dead": 5, "updates": 20_000, "hot": 19_000}
    bloated = {**fine, "name": "grants", "live": 10_000, "dead": 9_000}
    cold = {**fine, "hot": 1_000}
    young = {**cold, "updates": 100, "hot": 1}

    levels = [next(table_findings(SimpleNamespace(**one))).level.value for one in (fine, bloated, cold, young)]

    assert levels == ["ok", "warning", "warning", "ok"]


def test_a_token_endpoint_that_moved_is_told(installation: Installation, tmp_path: Path) -> None:
    """An issuer that says something else than what is written down is a warning, and what is written down is used."""
    path = tmp_path / "evergrant.toml"
    with running_issuer() as issuer:
        issuer.publish()
        table = _ISSUED.format(issuer=issuer.url)
        for written, level, found in (
            (table, "ok", "says the same"),
            (table.replace("/token", "/old"), "warning", f"written down is {issuer.url}/old"),
        ):
            path.write_text(written)
            _code, findings = examined(installation, EVERGRANT_CONFIG=str(path))
            told = findings["issuer of issued (client issued)"]
            assert (told["level"], found in told["found"]) == (level, True)


def test_a_proxy_that_nobody_has_named_is_told(installation: Installation) -> None:
    """Whoever comes by https comes through something that ends TLS: unnamed, it is all that is known of anybody."""
    _code, findings = examined(installation, EVERGRANT_PUBLIC_URL="https://127.0.0.1:9")
    assert findings["proxies"]["level"] == "warning"
    assert "trusted_proxies" in findings["proxies"]["remedy"]
