"""The mail server of EVERGRANT_SMTP_URL and the sender of EVERGRANT_MAIL_FROM, read and checked.

    smtp://[user:password@]host[:port][?starttls=required|optional|off]
    smtps://[user:password@]host[:port]

`smtp://` asks for STARTTLS (RFC 3207) and sends nothing without it, except to this machine, where it is used if it is
offered. `smtps://` speaks TLS from the first byte (RFC 8314 section 3). User and password are percent-encoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from email.headerregistry import Address
from email.utils import getaddresses
from enum import StrEnum
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from worker.domain.address import for_the_wire, is_address
from worker.domain.loopback import is_loopback
from worker.domain.secret import Secret

#: RFC 8314 section 3.3, RFC 6409 section 3.1, and what a server on this machine listens on.
_PORTS: Final = {"smtps": 465, "smtp": 587}
_LOCAL_PORT: Final = 25
_FORM: Final = "is not of the form smtp://user:password@host:port or smtps://user:password@host:port"


class Starttls(StrEnum):
    """Whether a connection that begins in the clear is encrypted before anything is said over it."""

    REQUIRED = "required"
    OPTIONAL = "optional"  #: where the server offers it
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class MailServer:
    """Where mails are handed in."""

    host: str
    port: int
    tls: bool  #: from the first byte
    starttls: Starttls  #: of a connection that is not
    username: str | None
    password: Secret | None


def read_mail_server(url: Secret) -> MailServer:
    """Read the URL of a mail server.

    Raises:
        ValueError: says what is wrong, and repeats nothing of the URL, for it may hold a password.

    """
    parts = _split(url.reveal())
    port = _port(parts)
    host = parts.hostname or ""
    starttls = _starttls(parts, host)
    tls = parts.scheme == "smtps"
    username, password = _decoded(parts.username), _decoded(parts.password)
    if (username is None) != (password is None):
        message = "must give a user and a password, or neither"
        raise ValueError(message)
    if password is not None and not tls and starttls is not Starttls.REQUIRED and not is_loopback(host):
        message = "would send the password in the clear: leave out starttls, or use smtps://"
        raise ValueError(message)
    return MailServer(
        host=host,
        port=port,
        tls=tls,
        starttls=starttls,
        username=username,
        password=Secret(password) if password else None,
    )


def read_sender(text: str) -> Address:
    """Read the sender: an address, or `Name <address>`.

    Raises:
        ValueError: when it is neither.

    """
    found = getaddresses([text])
    name, address = found[0] if len(found) == 1 and text.isprintable() else ("", "")
    if not is_address(address):
        message = "is not an e-mail address such as tokens@example.com, or Tokens <tokens@example.com>"
        raise ValueError(message)
    local, _, domain = for_the_wire(address).rpartition("@")
    return Address(display_name=name, username=local, domain=domain)


def _split(url: str) -> SplitResult:
    # What the standard library would raise is kept back: its messages repeat parts of the URL.
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(_FORM) from None
    fits = url.isprintable() and " " not in url and parts.scheme in _PORTS and parts.hostname
    if not fits or parts.path not in {"", "/"} or parts.fragment:
        raise ValueError(_FORM)
    return parts


def _decoded(text: str | None) -> str | None:
    try:
        return unquote(text, errors="strict") if text else None
    except UnicodeDecodeError:
        message = "must be percent-encoded UTF-8 in its user and password"
        raise ValueError(message) from None


def _port(parts: SplitResult) -> int:
    try:
        port = parts.port
    except ValueError:
        raise ValueError(_FORM) from None
    if port == 0:
        raise ValueError(_FORM)
    local = parts.scheme == "smtp" and is_loopback(parts.hostname)
    return port or (_LOCAL_PORT if local else _PORTS[parts.scheme])


def _starttls(parts: SplitResult, host: str) -> Starttls:
    asked = parse_qsl(parts.query, keep_blank_values=True)
    if not asked:
        return Starttls.OPTIONAL if is_loopback(host) else Starttls.REQUIRED
    if parts.scheme == "smtps" or [name for name, _value in asked] != ["starttls"]:
        message = "takes nothing behind its question mark but starttls=required, optional or off, with smtp://"
        raise ValueError(message)
    [(_name, value)] = asked
    try:
        return Starttls(value)
    except ValueError:
        message = "starttls must be required, optional or off"
        raise ValueError(message) from None
