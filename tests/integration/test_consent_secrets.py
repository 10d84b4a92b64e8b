"""What a whole consent leaves in the log of a real `evergrant web` and on its pages: no secret."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx
import psycopg

from tests.support.command_line import CommandLine
from tests.support.consenting import Browser, expect_callback, query_of
from tests.support.sandbox_clients import SECRET, register
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import wait_until
from worker.domain.secret import Secret
from worker.embedded.startup import free_loopback_port
from worker.sandbox.misbehaviour import Misbehaviour, Order, Step
from worker.sandbox.server import RunningSandbox
from worker.storage.sealing import ACCESS_TOKEN, REFRESH_TOKEN, KeyRing, parse_keys

READY_SECONDS = 60.0


@contextmanager
def running_web(command_line: CommandLine, log: Path) -> Iterator[str]:
    """Run `evergrant web` on a free port, with everything that it logs in a file."""
    port = free_loopback_port()
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as file, command_line.start("web", "--port", str(port), stderr=file) as process:
        try:
            wait_until(lambda: is_ready(url) or process.poll() is not None, READY_SECONDS, "the web process listens")
            assert process.poll() is None, log.read_text(encoding="utf-8")
            yield url
        finally:
            process.terminate()
            process.wait(30)


def is_ready(url: str) -> bool:
    """Tell whether the web process answers."""
    try:
        return httpx.get(f"{url}/healthz", trust_env=False).is_success
    except httpx.TransportError:
        return False


def test_no_secret_stands_in_a_log_line_or_page(
    sandbox: RunningSandbox, database_url: str, keys: Secret, tmp_path: Path
) -> None:
    """At the most talkative level neither a good consent nor one that fails shows code, state, mark or tokens."""
    client = register(sandbox)
    configuration = tmp_path / "evergrant.toml"
    configuration.write_text(client.toml, encoding="utf-8")
    command_line = CommandLine(
        folder=tmp_path,
        environment={
            "EVERGRANT_KEYS": keys.reveal(),
            "EVERGRANT_CONFIG": str(configuration),
            "EVERGRANT_LOG_LEVEL": "debug",
            **client.environment,
        },
    )
    log = tmp_path / "web.log"
    secrets = {SECRET, str(urlsplit(database_url).password), keys.reveal().partition(":")[2]}
    pages = []
    with (
        TcpProxy(database_url) as database,
        running_web(command_line.having(EVERGRANT_DATABASE_URL=database.url), log) as url,
        httpx.Client(base_url=url, trust_env=False, timeout=30) as http,
    ):
        owner = Browser(http=http)
        # The process was not told its public URL, so it announces the default one.
        expect_callback(sandbox, client, "http://127.0.0.1:8080")
        sandbox.control.order(Order(kind=Misbehaviour.LOST_REPLY, times=1, step=Step.CODE_EXCHANGE))
        for change, status in (({}, 502), ({}, 200), ({"state": "unknown"}, 400), (None, 503)):
            location = owner.connect(client.name, "customer-42")
            returned = owner.allow(location)
            secrets |= {query_of(location)["state"], returned["code"], http.cookies["evergrant_browser"]}
            if change is None:
                database.refuse()
            page = owner.call_back({**returned, **(change or {})})
            assert page.status_code == status
            pages.append(page.text)
        database.accept()
        pages += [http.get(path).text for path in ("/", "/metrics", "/readyz", "/openapi.json")]
    secrets |= stored_tokens(database_url, keys)

    said = log.read_text(encoding="utf-8")
    assert "consent_not_stored" in said, "the log is the one of these consents"
    assert len(secrets) == 3 + 4 + 4 + 1 + 2  # and states, codes, the browser's mark, two tokens
    for secret in secrets:
        for form in {secret, quote(secret), quote(secret, safe="")}:
            assert form not in said
            assert not any(form in page for page in pages)


def stored_tokens(database_url: str, keys: Secret) -> set[str]:
    """Return both tokens of the only grant."""
    ring = KeyRing(parse_keys(keys), os.urandom)
    with psycopg.connect(database_url) as connection:
        query = "SELECT id, access_token, refresh_token FROM grants"
        [(grant_id, access_token, refresh_token)] = connection.execute(query).fetchall()
    opened = ring.open(access_token, ACCESS_TOKEN, grant_id), ring.open(refresh_token, REFRESH_TOKEN, grant_id)
    return {token.reveal() for token in opened}
