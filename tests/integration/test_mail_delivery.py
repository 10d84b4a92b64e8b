"""Handing mails to a real server: what each of its answers means, over TLS and with a login."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest

from tests.support.certificates import certificate
from tests.support.mail_server import MailServer
from worker.domain.delivery import Accepted, Deferred, Delivery, Doubtful, Refused, Trouble
from worker.domain.secret import Secret
from worker.mail.delivery import Delivering
from worker.mail.server import read_mail_server, read_sender
from worker.mail.writing import Mail, NamedGrant, Writer

pytestmark = pytest.mark.anyio

ADA: Final = "ada@example.com"
_WHEN: Final = datetime(2026, 10, 7, 12, tzinfo=UTC)
_WRITER: Final = Writer(read_sender("Tökens <tokens@example.com>"), "https://tokens.example", None)


@pytest.fixture
def server() -> Iterator[MailServer]:
    """Run a server that takes everything."""
    with MailServer() as running:
        yield running


async def _deliver(url: str, *recipients: str, tls: ssl.SSLContext | None = None) -> Delivery:
    connection = Delivering(read_mail_server(Secret(url)), "tokens.example", tls or ssl.create_default_context())
    try:
        return await connection.deliver(_WRITER.write(_mail(*recipients or (ADA,)), _WHEN))
    finally:
        await connection.close()


def _mail(*recipients: str) -> Mail:
    grant = NamedGrant(client_name="acme", client="Acme", account="customer-42", detail=None, ends_at=None)
    return Mail(
        message_id=uuid4(),
        recipients=recipients,
        grants=[grant],
        link=Secret("https://tokens.example/reconsent/abc"),
        link_expires_at=_WHEN,
    )


async def test_a_mail_arrives_as_it_was_written(server: MailServer) -> None:
    """Sender, recipients, subject, both bodies and the headers that keep holiday notices away."""
    assert await _deliver(server.url, ADA, "bob@bücher.example") == Accepted()

    [received] = server.received
    assert (received.sender, received.recipients) == ("tokens@example.com", (ADA, "bob@xn--bcher-kva.example"))
    message = received.message
    assert message["From"] == "Tökens <tokens@example.com>"
    assert message["Subject"] == "Acme · customer-42 ↻"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Message-ID"].endswith("@example.com>")
    assert "Bitte erneut autorisieren" in received.text
    assert received.link == "https://tokens.example/reconsent/abc"


async def test_an_address_with_other_letters_is_delivered(server: MailServer) -> None:
    """Where the server takes such addresses (SMTPUTF8, RFC 6531), the mail goes there as it is."""
    assert await _deliver(server.url, "bücher@example.com") == Accepted()
    assert server.received[0].recipients == ("bücher@example.com",)


@pytest.mark.parametrize(
    ("reply", "delivery"),
    [
        ("550 5.1.1 no such user", Refused(status=550, reply="5.1.1 no such user")),
        ("450 4.2.0 try again later", Deferred(status=450, reply="4.2.0 try again later")),
    ],
)
async def test_an_answer_is_kept_with_its_reason(server: MailServer, reply: str, delivery: Delivery) -> None:
    """Permanent is refused and temporary is deferred, whether at the recipient or after the data."""
    server.faults.at_recipient = lambda _address: reply
    assert await _deliver(server.url) == delivery

    server.faults.at_recipient = lambda _address: None
    server.faults.at_data = lambda _address: reply
    assert await _deliver(server.url) == delivery
    assert server.received == []


async def test_one_of_several_recipients_is_enough(server: MailServer) -> None:
    """Who is refused does not keep the mail from the others; where all are, one that may be taken later decides."""
    server.faults.at_recipient = lambda address: "550 5.1.1 no" if address == ADA else None
    assert await _deliver(server.url, ADA, "bob@example.com") == Accepted()

    server.faults.at_recipient = lambda address: "550 5.1.1 no" if address == ADA else "451 4.7.1 greylisted"
    assert await _deliver(server.url, ADA, "bob@example.com") == Deferred(status=451, reply="4.7.1 greylisted")


async def test_a_lost_answer_is_a_doubt_and_a_lost_connection_is_not(server: MailServer) -> None:
    """Before the data nothing was handed over, and others may fare better; after it the server may have the mail."""
    server.faults.hangs_up = lambda _address: True
    assert isinstance(await _deliver(server.url), Deferred)
    assert server.received == []

    server.faults.hangs_up = lambda _address: False
    server.faults.hangs_up_after = lambda _address: True
    assert isinstance(await _deliver(server.url), Doubtful)
    assert len(server.received) == 1


async def test_a_connection_that_broke_meanwhile_is_made_anew(server: MailServer) -> None:
    """A server that restarted between two mails costs nothing."""
    connection = Delivering(read_mail_server(Secret(server.url)), "tokens.example", ssl.create_default_context())
    assert await connection.deliver(_WRITER.write(_mail(ADA), _WHEN)) == Accepted()
    assert await connection.deliver(_WRITER.write(_mail(ADA), _WHEN)) == Accepted()
    assert server.connections == 1

    server.stop()
    server.start()
    assert await connection.deliver(_WRITER.write(_mail(ADA), _WHEN)) == Accepted()
    await connection.close()


async def test_a_server_that_is_not_there_is_trouble(server: MailServer) -> None:
    """It concerns all mails, and the reason is told."""
    server.stop()

    trouble = await _deliver(server.url)
    assert isinstance(trouble, Trouble)
    assert "connect" in trouble.what.lower()


async def test_starttls_and_login(tmp_path: Path) -> None:
    """A server that asks for both gets both; without a trusted certificate or the right password nothing is sent."""
    serves, trusts = certificate(tmp_path)
    with MailServer(tls=serves, login=("tokens", "p@ss word")) as server:
        url = f"smtp://tokens:p%40ss%20word@localhost:{server.port}?starttls=required"
        assert await _deliver(url, tls=trusts) == Accepted()
        assert server.received[0].over_tls

        untrusted = await _deliver(url)
        assert isinstance(untrusted, Trouble)
        assert "certificate" in untrusted.what.lower()

        wrong = await _deliver(url.replace("word", "wrong"), tls=trusts)
        assert wrong == Trouble(status=535, what="the mail server does not accept our user and password")
        assert len(server.received) == 1


async def test_a_server_without_starttls_gets_nothing(server: MailServer) -> None:
    """Where encryption is required and not offered, nothing is said over the connection."""
    refused = await _deliver(f"{server.url}?starttls=required")

    assert isinstance(refused, Trouble)
    assert server.received == []
