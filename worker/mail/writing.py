"""Writing a mail: from the grants it is about and their link to a message, by templates that can be replaced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, StrictUndefined, TemplateSyntaxError, select_autoescape

from worker.domain.address import for_the_wire
from worker.domain.errors import ConfigurationError, MailTemplateError
from worker.domain.secret import Secret

TEMPLATES: Final = Path(__file__).parent / "templates"
SUBJECT: Final = "reconsent.subject.txt"
TEXT: Final = "reconsent.txt"
HTML: Final = "reconsent.html"
#: Names that a mail's header holds without being folded into nonsense.
_LONGEST_SUBJECT: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedGrant:
    """One grant as its owner knows it."""

    client_name: str  #: in the configuration: templates of its own lie in a folder of this name
    client: str
    account: str
    detail: str | None  #: the account's name at the provider, where it tells more
    ends_at: datetime | None  #: when the consent ends; None: it has ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """What one mail says, to whom. The link is the owner's alone."""

    message_id: UUID
    recipients: tuple[str, ...]
    grants: Sequence[NamedGrant]
    link: Secret
    link_expires_at: datetime


class Writer:
    """Writes mails.

    Args:
        sender: from whom they are.
        public_url: base of the links; its host is named in the mail.
        folder: templates that take the place of ours, for all clients or, in a folder of its name, for one.

    """

    def __init__(self, sender: Address, public_url: str, folder: Path | None) -> None:
        self._sender = sender
        self._host = urlsplit(public_url).hostname or public_url
        self._folder = folder
        self._environments: dict[str | None, Environment] = {}  # compiling the templates takes longer than all else

    def write(self, mail: Mail, at: datetime) -> EmailMessage:
        """Write a mail.

        Args:
            mail: what it says.
            at: the time for its Date header.

        Raises:
            ValueError: when a recipient is no e-mail address.
            MailTemplateError: names the template that cannot be written with.

        """
        recipients = [_address(recipient) for recipient in mail.recipients]
        names = {grant.client_name for grant in mail.grants}
        environment = self._environment(names.pop() if len(names) == 1 else None)
        values = {
            "grants": mail.grants,
            "link": mail.link.reveal(),
            "link_expires_at": mail.link_expires_at.astimezone(UTC),
            "host": self._host,
            "sender": self._sender.display_name or self._sender.addr_spec,
        }
        subject = _one_line(_rendered(environment, SUBJECT, values))
        text = _rendered(environment, TEXT, values)
        html = _rendered(environment, HTML, {**values, "subject": subject})
        is_ascii = all(str(recipient.addr_spec).isascii() for recipient in (*recipients, self._sender))
        message = EmailMessage(policy=SMTP if is_ascii else SMTPUTF8)
        message["From"] = self._sender
        message["To"] = recipients
        message["Subject"] = subject
        message["Date"] = format_datetime(at.astimezone(UTC))
        message["Message-ID"] = f"<{mail.message_id}@{self._sender.domain}>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no holiday notice answers it
        message["X-Auto-Response-Suppress"] = "All"  # and Exchange's word for the same
        message.set_content(text, cte="quoted-printable")
        message.add_alternative(html, subtype="html", cte="quoted-printable")
        return message

    def _environment(self, client_name: str | None) -> Environment:
        if client_name not in self._environments:
            self._environments[client_name] = _environment(self._folder, client_name)
        return self._environments[client_name]


def check_templates(folder: Path | None) -> None:
    """See that an operator's templates can be written with.

    Raises:
        ConfigurationError: names the folder or template and what is wrong with it.

    """
    if folder is None:
        return
    if not folder.is_dir():
        raise ConfigurationError(f"[mails] templates: {folder} is not a folder")
    for client in (None, *sorted(found.name for found in folder.iterdir() if found.is_dir())):
        environment = _environment(folder, client)
        for name in (SUBJECT, TEXT, HTML):
            for grants in (_SAMPLE[:1], _SAMPLE):
                try:
                    _rendered(environment, name, _sample_values(grants))
                except MailTemplateError as error:
                    raise ConfigurationError(f"[mails] templates: {error}") from None


def _rendered(environment: Environment, name: str, values: Mapping[str, object]) -> str:
    where = name
    try:
        template = environment.get_template(name)
        where = template.filename or name
        return template.render(values)
    except Exception as error:  # noqa: BLE001 -- a template is a program, and may raise anything
        if isinstance(error, TemplateSyntaxError):
            where = f"{error.filename or name}, line {error.lineno}"
        raise MailTemplateError(f"{where}: {_one_line(str(error)) or type(error).__name__}") from None


_WHEN: Final = datetime(2030, 1, 1, tzinfo=UTC)
_SAMPLE: Final = (
    NamedGrant(client_name="acme", client="Acme", account="customer-42", detail="ada@example.com", ends_at=None),
    NamedGrant(client_name="acme", client="Acme", account="customer-43", detail=None, ends_at=_WHEN),
)


def _sample_values(grants: Sequence[NamedGrant]) -> dict[str, object]:
    return {
        "grants": grants,
        "link": "https://tokens.example/reconsent/abc",
        "link_expires_at": _WHEN,
        "host": "tokens.example",
        "sender": "Tokens",
        "subject": "Acme",
    }


def _environment(folder: Path | None, client: str | None) -> Environment:
    own = [] if folder is None else [folder / client, folder] if client is not None else [folder]
    return Environment(
        loader=ChoiceLoader([FileSystemLoader(place) for place in (*own, TEMPLATES)]),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _address(text: str) -> Address:
    local, _, domain = for_the_wire(text).rpartition("@")
    return Address(username=local, domain=domain)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_LONGEST_SUBJECT]
