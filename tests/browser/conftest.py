"""A real Chromium, and the real web application on a real PostgreSQL for it to look at."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from uuid import UUID, uuid4

import psycopg
import pytest
import uvicorn
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Response, expect, sync_playwright
from prometheus_client import CollectorRegistry, Counter
from psycopg.types.json import Jsonb

from tests.support.signing_in import session_cookie
from worker.bootstrap import Container, create_container
from worker.domain.grant import ROTATED_STATES, GrantState
from worker.domain.roles import Role
from worker.domain.secret import Secret
from worker.sandbox import metrics as sandbox_metrics
from worker.settings import Settings
from worker.web.app import create_web_app

#: Two clients that exist, one of them with a provider that has a name for people.
CONFIGURATION: Final = """
[providers.acme]
display_name = "Acme"
authorization_endpoint = "https://login.acme.example/authorize"
token_endpoint = "https://api.acme.example/token"
client_auth = "none"

[clients.acme-main]
provider = "acme"
client_id = "acme-main"

[clients.acme-other]
provider = "acme"
client_id = "acme-other"
"""
#: What configurations may refer to.
ENVIRONMENT: Final = {"CLIENT_SECRET": "not url-safe: 100 % + more"}
#: Shown in `pg_stat_activity` for the application's connections.
APPLICATION_NAME: Final = "evergrant browser test"
_CHROMIUMS: Final = ("chromium", "chromium-browser", "google-chrome")
#: No traffic of the browser's own: the tests see what the page does, and nothing leaves the machine.
_FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
#: Seconds for the application to start or stop; it takes a fraction of one.
_PATIENCE: Final = 20.0
_LONG: Final = timedelta(hours=1)

# Milliseconds. The page refreshes itself every 2 s; a loaded machine takes its time.
expect.set_options(timeout=20_000)


class ServedApplication:
    """The web application on uvicorn in a thread; it can go away and come back under the same address.

    Args:
        settings: where its database is, and its configuration.
        port: where it listens; a free one if it is 0.
        environment: what the configuration may refer to.

    """

    def __init__(self, settings: Settings, port: int = 0, environment: Mapping[str, str] = ENVIRONMENT) -> None:
        self._settings = settings
        self._port = port
        self._environment = environment
        self._running: tuple[uvicorn.Server, threading.Thread] | None = None
        #: What its /metrics are taken from.
        self.registry = CollectorRegistry()

    @property
    def url(self) -> str:
        """Return the first page's address."""
        return f"http://127.0.0.1:{self._port}/"

    def start(self) -> None:
        """Start serving, on the port of before where there was one."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self._port))
        listener.listen()  # from here on a browser waits in the queue rather than being refused
        self._port = listener.getsockname()[1]

        def container() -> Container:
            # Metrics of its own are registered once per process, and a second start stands for a new process.
            registry = CollectorRegistry()
            return create_container(
                self._settings, name=APPLICATION_NAME, environment=self._environment, registry=registry
            )

        app = create_web_app(container, self.registry)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=2))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="web")
        thread.start()
        self._running = (server, thread)

    def stop(self) -> None:
        """Stop serving; the address answers nothing then."""
        if self._running is None:
            return
        server, thread = self._running
        server.should_exit = True
        thread.join(_PATIENCE)
        assert not thread.is_alive(), "the web application did not stop"
        self._running = None

    def sign_in(
        self, context: BrowserContext, role: Role = Role.ADMIN, *, client: str | None = None, name: str = "Ada"
    ) -> None:
        """Give a browser window a session of a role, bound to a client or to none."""
        cookie = session_cookie(self._settings, role, client=client, name=name)
        context.add_cookies([{**cookie, "url": self.url, "httpOnly": True, "sameSite": "Lax"}])  # type: ignore[typeddict-item]

    def count_in_sandbox(self, counts: Mapping[str, int]) -> None:
        """Show counts of a sandbox, as where it runs beside the application.

        Args:
            counts: by the name of the counter in `worker.sandbox.metrics`; the others are at 0.

        """
        for name in ("REFRESH_PRESENTED", "ROTATIONS", "DOUBLE_SPENDS", "FAULTS"):
            told = getattr(sandbox_metrics, name).describe()[0]
            Counter(told.name, told.documentation, registry=self.registry).inc(counts.get(name, 0))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


class Rows:
    """Writes what workers would have written, as rows.

    Args:
        connection: committed after each statement.

    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def add_grant(
        self,
        subject: str,
        *,
        client: str = "acme-main",
        state: GrantState = GrantState.ACTIVE,
        due_in: timedelta = _LONG,
        access_ends_in: timedelta = _LONG,
    ) -> UUID:
        """Add a grant and return its id."""
        grant_id = uuid4()
        self._connection.execute(
            """
            INSERT INTO grants (id, client, subject, state, refresh_token, rotate_at, access_expires_at)
            VALUES (%s, %s, %s, %s, %s, now() + %s, now() + %s)
            """,
            (grant_id, client, subject, state, b"sealed", due_in if state in ROTATED_STATES else None, access_ends_in),
        )
        return grant_id

    def add_rotation(self, grant_id: UUID, *, generation: int, ago: timedelta = timedelta()) -> None:
        """Add a rotation of a grant."""
        self._connection.execute(
            """
            INSERT INTO rotations (at, grant_id, client, subject, generation)
            SELECT now() - %s, id, client, subject, %s FROM grants WHERE id = %s
            """,
            (ago, generation, grant_id),
        )

    def add_event(self, event_type: str, grant_id: UUID, *, ago: timedelta = timedelta(), **data: object) -> None:
        """Add an event of a grant."""
        self._connection.execute(
            """
            INSERT INTO events (at, type, client, grant_id, subject, data)
            SELECT now() - %s, %s, client, id, subject, %s FROM grants WHERE id = %s
            """,
            (ago, event_type, Jsonb(data), grant_id),
        )

    def change_state(self, grant_id: UUID, state: GrantState) -> None:
        """Put a grant in a state in which it is not rotated."""
        self._connection.execute("UPDATE grants SET state = %s, rotate_at = NULL WHERE id = %s", (state, grant_id))

    def open_breaker(self, client: str, *, reason: str, code: str) -> None:
        """Open a client's breaker."""
        self._connection.execute(
            """
            INSERT INTO client_status (client, breaker_opened_at, breaker_reason, breaker_code)
            VALUES (%(client)s, now() - interval '3 minutes', %(reason)s, %(code)s)
            """,
            {"client": client, "reason": reason, "code": code},
        )


@pytest.fixture(scope="session")
def chromium() -> str:
    """Find a Chromium; without one skip, or fail in the gate, and say what to install."""
    found = next(filter(None, map(shutil.which, _CHROMIUMS)), None)
    if found is not None:
        return found
    advice = "No Chromium was found: install one, such as Debian's package `chromium`, to run the browser tests."
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(advice, pytrace=False)
    pytest.skip(advice)


# Not for the whole session: Playwright keeps an event loop in this thread, beside which asynchronous tests cannot run.
@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """Run a browser for one module's tests."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=_FLAGS)
        yield running
        running.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """Give a browser window without memory of others."""
    with browser.new_context(reduced_motion="reduce") as fresh:
        yield fresh


@pytest.fixture
def complaints() -> list[str]:
    """Collect what the browser complains of; whoever expects a complaint empties the list."""
    return []


@pytest.fixture
def page(context: BrowserContext, complaints: list[str]) -> Iterator[Page]:
    """Give a tab; the test fails where the browser complained of an error, a forbidden asset or a failed request."""

    def hear(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            complaints.append(message.text)

    def see(response: Response) -> None:
        if response.status >= 400:
            complaints.append(f"{response.status} {response.url}")

    tab = context.new_page()
    tab.on("console", hear)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("response", see)
    yield tab
    tab.close()
    assert not complaints


@pytest.fixture
def rows(database_url: str) -> Iterator[Rows]:
    """Give a way to write rows into the test's database."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield Rows(connection)


@pytest.fixture
def settings(database_url: str, keys: Secret, tmp_path: Path) -> Settings:
    """Give the application's settings, with two clients."""
    configuration = tmp_path / "evergrant.toml"
    configuration.write_text(CONFIGURATION, encoding="utf-8")
    return Settings(database_url=Secret(database_url), keys=keys, config=configuration)


@pytest.fixture
def served(settings: Settings) -> Iterator[ServedApplication]:
    """Serve the application."""
    with ServedApplication(settings) as application:
        yield application
