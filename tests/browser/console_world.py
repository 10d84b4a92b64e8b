"""A console to look at and to act in: one installation with a sandbox, something of everything in its database."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

import psycopg
from playwright.sync_api import Page

from tests.browser.conftest import Rows, ServedApplication
from tests.support.installation import Installation, installed
from tests.support.webhook_receiver import WebhookReceiver
from tests.support.webhooks import ENVIRONMENT as HOOK_ENVIRONMENT
from tests.support.webhooks import SECRET, endpoint
from worker.domain.grant import GrantState
from worker.settings import load_settings

#: Subject, account and error texts come from outside: none of them may become markup.
HOSTILE: Final = "<script>document.title = 'broken into'</script><img src=x onerror=alert(1)>" + "long" * 30
#: A client whose provider nobody reaches.
_OTHER_CLIENT: Final = """
[providers.nowhere]
display_name = "Nowhere"
authorization_endpoint = "http://127.0.0.1:9/authorize"
token_endpoint = "http://127.0.0.1:9/token"
client_auth = "none"

[clients.other]
provider = "nowhere"
client_id = "other"
fallback_recipients = ["fallback@example.com"]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleWorld:
    """What the console shows."""

    installation: Installation
    served: ServedApplication
    receiver: WebhookReceiver
    alive: UUID  #: adopted from the sandbox: it can be refreshed
    dead: UUID  #: its owner is known

    @property
    def client(self) -> str:
        """The client at the sandbox."""
        return self.installation.client

    def open(self, page: Page, path: str) -> None:
        """Open a page of the console, signed in as an admin."""
        self.served.sign_in(page.context)
        page.goto(self.address(path))

    def address(self, path: str) -> str:
        """Return a page's address."""
        return self.served.url.rstrip("/") + path

    def grant(self, subject: str) -> UUID:
        """Return the grant of a subject."""
        with psycopg.connect(self.installation.database_url) as connection:
            found = connection.execute("SELECT id FROM grants WHERE subject = %s", (subject,)).fetchone()
        assert found is not None
        return UUID(str(found[0]))

    def state(self, grant_id: UUID) -> str:
        """Return a grant's state as the database has it."""
        [(state,)] = self.installation.query(f"SELECT state FROM grants WHERE id = '{grant_id}'")
        return str(state)


@contextmanager
def console_world(folder: Path, database_server: str, migrated_template: str) -> Iterator[ConsoleWorld]:
    """Set one up in a folder."""
    with (
        installed(folder, database_server, migrated_template) as installation,
        WebhookReceiver(SECRET) as receiver,
    ):
        with ThreadPoolExecutor(1) as thread:  # Playwright keeps an event loop in this one
            alive = UUID(thread.submit(installation.adopt, installation.seed()).result())
        configuration = folder / "evergrant.toml"
        tables = (configuration.read_text(encoding="utf-8"), _OTHER_CLIENT, endpoint(receiver.url))
        configuration.write_text("\n".join(tables), encoding="utf-8")
        environment = {
            **installation.command_line.environment,
            **HOOK_ENVIRONMENT,
            "EVERGRANT_SMTP_URL": "smtp://127.0.0.1:9",  # mails are asked for; no worker sends them
            "EVERGRANT_MAIL_FROM": "tokens@example.com",
        }
        settings = load_settings({name: value for name, value in environment.items() if name.startswith("EVERGRANT_")})
        with psycopg.connect(installation.database_url, autocommit=True) as connection:
            dead = fill(Rows(connection), connection, installation.client)
        with ServedApplication(settings, environment=environment) as served:
            yield ConsoleWorld(installation=installation, served=served, receiver=receiver, alive=alive, dead=dead)


def fill(rows: Rows, connection: psycopg.Connection[tuple[object, ...]], client: str) -> UUID:
    """Write something of everything; returns a dead grant whose owner is known."""
    for number in range(60):
        rows.add_grant(f"customer-{number:02}", client=client, due_in=timedelta(minutes=number + 5))
    for state in GrantState:
        rows.add_grant(f"as-{state}", client="other", state=state)
    dead = rows.add_grant("dead-1", client=client, state=GrantState.RECONSENT_REQUIRED)
    hostile = rows.add_grant(HOSTILE, client="other", state=GrantState.RECONSENT_REQUIRED)
    connection.execute(
        "UPDATE grants SET state_reason = 'invalid_grant', email = 'ada@example.com', account = 'account-77'"
        " WHERE id = %s",
        (dead,),
    )
    connection.execute(
        "UPDATE grants SET state_reason = 'rotation_reply_lost', account = %s, last_error = %s, last_error_code = %s"
        " WHERE id = %s",
        (HOSTILE, HOSTILE, HOSTILE, hostile),
    )
    connection.execute("UPDATE grants SET email = 'grace@example.com' WHERE subject = 'as-reconsent_required'")
    for generation in range(1, 4):
        rows.add_rotation(dead, generation=generation, ago=timedelta(hours=9 - generation))
    rows.add_event("grant.in_doubt", dead, ago=timedelta(hours=3), reason="timeout", generation=3)
    rows.add_event("grant.reconsent_required", dead, ago=timedelta(hours=2), reason="invalid_grant", code=HOSTILE)
    connection.execute(
        """
        INSERT INTO reconsent_mails (id, grant_id, client, subject, death, kind, recipient, state, last_error,
                                     last_error_status, last_error_at, attempts, created_at)
        SELECT gen_random_uuid(), id, client, subject, state_since, 'death', coalesce(email, 'fallback@example.com'),
               'refused', '5.1.1 <b>no such mailbox</b>', 550, now() - interval '1 hour', 1, now() - interval '2 hours'
          FROM grants WHERE id = ANY(%s)
        """,
        ([dead, hostile],),
    )
    rows.open_breaker("other", reason="connect", code=HOSTILE)
    connection.execute("UPDATE client_status SET braked_at = now() - interval '3 hours' WHERE client = 'other'")
    connection.execute("INSERT INTO webhook_endpoints (name, url_fingerprint, read_until) VALUES ('former', 'none', 0)")
    connection.execute(
        """
        INSERT INTO webhook_deliveries (endpoint, event_id, lane, failures, dead_at, last_error, last_error_at)
        SELECT 'billing', id, 'billing ' || id, 10, now() - interval '1 minute', %s, now() FROM events
         WHERE type = 'grant.in_doubt'
        """,
        (f"it answered 500 {HOSTILE}",),
    )
    connection.execute(
        """
        INSERT INTO audit_log (kind, actor, role, address, act, outcome, client, grant_id, subject, count, details)
        SELECT 'person', CAST(%(hostile)s AS text), 'operator', '192.0.2.1', act, outcome, client, id, subject, 1200,
               jsonb_build_object('endpoint', CAST(%(hostile)s AS text), 'changed', '["email", "account"]'::jsonb)
          FROM grants, (VALUES ('grant.pause', 'done'), ('grant.revoke', 'refused'), ('access_token.give', 'failed'))
               AS acts (act, outcome)
         WHERE id = %(grant)s
        """,
        {"hostile": HOSTILE, "grant": hostile},
    )
    connection.execute(
        """
        INSERT INTO api_tokens (id, name, token_hash, role, client, last_used_at, revoked_at)
        VALUES (gen_random_uuid(), %s, '1', 'token', 'other', now() - interval '3 days', NULL),
               (gen_random_uuid(), 'former', '2', 'admin', NULL, NULL, now())
        """,
        (HOSTILE,),
    )
    connection.execute(
        """
        INSERT INTO sessions (id, secret_hash, issuer, subject, name, role, client, address, agent, expires_at)
        VALUES (gen_random_uuid(), '1', 'https://login.example', '1', %(hostile)s, 'reader', 'other', '2001:db8::1',
                %(hostile)s, now() + interval '1 hour')
        """,
        {"hostile": HOSTILE},
    )
    return dead
