"""A bulk of mails through workers and beats of their own, while the mail server fails in the middle of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import psycopg
import pytest

from tests.conftest import ContainerMaker
from tests.support.database import execute, rows
from tests.support.deployment import deployed
from tests.support.mail_server import MailServer
from tests.support.mailing import CONFIGURATION
from tests.support.waiting import until
from worker.bootstrap import Container
from worker.domain.secret import Secret

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

OWNERS = 1_000
MANUAL = CONFIGURATION.replace('client_id = "acme-main"', 'client_id = "a"\nreconsent_mails = "manual"')
_DEAD = """
    INSERT INTO grants (id, client, subject, state, state_since, refresh_token, email)
    SELECT gen_random_uuid(), 'acme-main', 'customer-' || number, 'reconsent_required', now() - interval '1 month', '',
           'customer-' || number || '@example.com'
      FROM generate_series(1, :owners) AS number
"""
#: Nobody waits for a greylisting server here.
_DUE = "UPDATE reconsent_mails SET due_at = now() WHERE state = 'waiting' AND due_at > now()"
_STANDING = "SELECT state, count(*) AS count FROM reconsent_mails GROUP BY state"


async def test_a_thousand_owners_get_one_mail_each(
    *, make_container: ContainerMaker, database_url: str, broker_url: str, keys: Secret, tmp_path: Path
) -> None:
    """It hangs up, greylists, and is gone for a while: two workers and two beats send each owner exactly one mail."""
    with MailServer() as server, psycopg.connect(database_url, autocommit=True) as connection:
        async with make_container(MANUAL, smtp_url=server.url) as container:
            await execute(container, _DEAD, owners=OWNERS)
            greylisted: set[str] = set()
            server.faults.at_recipient = lambda address: _greylist(address, greylisted)
            # From a quarter on it hangs up on some before the data, as a server does that is being restarted.
            server.faults.hangs_up = lambda address: len(server.received) in range(250, 300) and "7" in address
            async for _page in container.mails.requests.ask_all(None):
                pass

            with deployed(
                tmp_path,
                database_url=database_url,
                broker_url=broker_url,
                keys=keys,
                configuration=MANUAL,
                workers=2,
                beats=2,
                EVERGRANT_SMTP_URL=server.url,
                EVERGRANT_MAIL_FROM="tokens@example.com",
            ) as deployment:
                await server.until(400, 60)
                server.stop()
                await until(lambda: _has_noticed(container), 60, "the workers have noticed that the server is away")
                before = len(server.received)
                server.start()
                await server.until(before + 1, 60)

                async def done() -> bool:
                    await execute(container, _DUE)
                    return len({received.recipients[0] for received in server.received}) >= OWNERS

                async def sent() -> bool:
                    await execute(container, _DUE)
                    return _standing(connection) == {"sent": OWNERS}

                await until(done, 90, "every owner has a mail")
                await until(sent, 60, "all are noted as sent")
                assert deployment.ended() == []

            counts = Counter(received.recipients[0] for received in server.received)
            assert len(counts) == OWNERS
            assert len({received.link for received in server.received}) == OWNERS
            [tried] = await rows(
                container, "SELECT sum(doubts) AS doubts, max(attempts) AS attempts FROM reconsent_mails"
            )
            # The one thing that can make a mail come twice: the server went away between taking it and saying so.
            assert len(server.received) - OWNERS <= tried.doubts
            assert len({received.message["Message-ID"] for received in server.received}) == OWNERS
            assert tried.attempts >= 2, "what was put off or broken off was tried again"


def _greylist(address: str, seen: set[str]) -> str | None:
    if address.endswith("5@example.com") and address not in seen:
        seen.add(address)
        return "450 4.7.1 greylisted, try again in a minute"
    return None


async def _has_noticed(container: Container) -> bool:
    found = await rows(container, "SELECT FROM reconsent_mails WHERE last_error ILIKE '%connect%' LIMIT 1")
    return bool(found)


def _standing(connection: psycopg.Connection[tuple[str, int]]) -> dict[str, int]:
    return dict(connection.execute(_STANDING).fetchall())
