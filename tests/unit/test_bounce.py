"""Bounces: what a report says of a mail of ours, and everything else that lands in a mailbox."""

from __future__ import annotations

from email.message import EmailMessage
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.mail.bounce import Bounce, read_bounce

ID = UUID("04981730-0635-44d9-af51-92f48fc1992a")
REPORT = """\
From: MAILER-DAEMON@mail.example
To: tokens@example.com
Subject: Undelivered Mail Returned to Sender
Content-Type: multipart/report; report-type=delivery-status; boundary="b"
MIME-Version: 1.0

--b
Content-Type: text/plain

I'm sorry to have to inform you that your message could not be delivered.

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mail.example

Final-Recipient: rfc822; ada@example.com
Action: {action}
Status: 5.1.1
{diagnostic}

--b
Content-Type: {kind}

Message-ID: <{message_id}@example.com>
Subject: Acme

--b--
"""


def _report(
    *,
    action: str = "failed",
    diagnostic: str = "Diagnostic-Code: smtp; 550 5.1.1 <ada@example.com>: no such user",
    kind: str = "message/rfc822",
    message_id: object = ID,
) -> bytes:
    return REPORT.format(action=action, diagnostic=diagnostic, kind=kind, message_id=message_id).encode()


@pytest.mark.parametrize("kind", ["message/rfc822", "text/rfc822-headers"])
def test_a_failure_names_our_mail_and_the_reason(kind: str) -> None:
    """With the whole mail or its headers behind it, the report gives the mail's id, the code and the words."""
    expected = Bounce(message_id=ID, status=550, reply="5.1.1 <ada@example.com>: no such user")

    assert read_bounce(_report(kind=kind)) == expected
    assert read_bounce(_report(kind=kind).replace(b"\n", b"\r\n")) == expected


def test_a_report_without_words_has_the_status_at_least() -> None:
    """Where no server was spoken to, the enhanced code tells what is known."""
    assert read_bounce(_report(diagnostic="")) == Bounce(message_id=ID, status=None, reply="5.1.1")
    unnumbered = read_bounce(_report(diagnostic="Diagnostic-Code: smtp; mailbox\n full"))
    assert unnumbered == Bounce(message_id=ID, status=None, reply="5.1.1 mailbox full")


def test_what_is_no_failure_of_ours_is_passed_over() -> None:
    """A delay, a success, somebody else's mail, a holiday notice, nothing."""
    notice = EmailMessage()
    notice["Subject"] = "I am away"
    notice.set_content("until Monday")

    assert read_bounce(_report(action="delayed")) is None
    assert read_bounce(_report(action="relayed")) is None
    assert read_bounce(_report(message_id="somebody.else")) is None
    assert read_bounce(notice.as_bytes()) is None
    assert read_bounce(b"") is None


@given(cut=st.integers(0, 700), junk=st.binary(max_size=40))
def test_a_mangled_report_breaks_nothing(cut: int, junk: bytes) -> None:
    """Whatever stands on standard input, it is read or passed over."""
    whole = _report()
    read_bounce(whole[:cut] + junk + whole[cut:])
    read_bounce(junk)
