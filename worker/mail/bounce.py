"""Reading a bounce: the report of a mail server that it could not deliver what it had taken (RFC 3464)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email import message_from_bytes
from email.message import EmailMessage, Message
from email.policy import default
from typing import Final
from uuid import UUID

from worker.domain.delivery import readable

_OURS: Final = re.compile(r"<([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})@[^>\s]+>")
#: `Diagnostic-Code: smtp; 550 5.1.1 …` (RFC 3464 section 2.3.6).
_SMTP: Final = re.compile(r"smtp\s*;\s*(?:(\d{3})[ -])?(.*)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounce:
    """One of our mails did not reach its mailbox, and will not."""

    message_id: UUID
    status: int | None  #: the reply's code at the server that refused it
    reply: str


def read_bounce(content: bytes) -> Bounce | None:
    """Return what a report says of a mail of ours; None where it is no report, about another mail, or of a delay."""
    report = message_from_bytes(content, _class=EmailMessage, policy=default)
    failed = next(
        (block for block in _blocks(report) if str(block.get("Action", "")).strip().lower() == "failed"), None
    )
    message_id = _original(report)
    if failed is None or message_id is None:
        return None
    enhanced = _field(failed, "Status")
    said = _SMTP.match(_field(failed, "Diagnostic-Code"))
    code, reply = (said[1], readable(said[2])) if said is not None else (None, "")
    if not reply.startswith(enhanced):
        reply = f"{enhanced} {reply}".strip()
    return Bounce(message_id=message_id, status=int(code) if code is not None else None, reply=readable(reply))


def _blocks(report: EmailMessage) -> list[Message]:
    """Return the blocks of fields that tell of each recipient."""
    found: list[Message] = []
    for part in report.walk():
        if part.get_content_type() == "message/delivery-status" and part.is_multipart():
            found += [block for block in part.get_payload() if isinstance(block, Message)]
    return found


def _field(block: Message, name: str) -> str:
    return str(block.get(name, "")).strip()


def _original(report: EmailMessage) -> UUID | None:
    """Return the id of the mail that the report is about, from the copy or the headers that it brings."""
    for part in report.walk():
        match part.get_content_type():
            case "message/rfc822" if part.is_multipart():
                inner = part.get_payload(0)
                written = str(inner.get("Message-ID", "")) if isinstance(inner, Message) else ""
            case "text/rfc822-headers":
                written = str(part.get_payload(decode=False))
            case _:
                continue
        found = _OURS.search(written)
        if found is not None:
            return UUID(found[1])
    return None
