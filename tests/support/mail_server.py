"""A mail server that nobody here wrote (aiosmtpd), on loopback: it keeps what it takes, and fails on order."""

from __future__ import annotations

import asyncio
import re
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from types import TracebackType
from typing import Any, Final, Self

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.secrecy.told import tell
from tests.support.waiting import until, wait_until

_LINK: Final = re.compile(r"https?://\S+/reconsent/[A-Za-z0-9_-]+")
_LIMIT_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One mail that the server has taken."""

    sender: str
    recipients: tuple[str, ...]
    message: EmailMessage
    over_tls: bool

    @property
    def link(self) -> str:
        """Return the link in its text, which must be the one in its HTML."""
        [in_text] = set(_LINK.findall(self.text))
        assert f'href="{in_text}"' in self.html
        return str(in_text)

    @property
    def text(self) -> str:
        """Return its text."""
        return _part(self.message, "plain")

    @property
    def html(self) -> str:
        """Return its HTML."""
        return _part(self.message, "html")


@dataclass(slots=True)
class Faults:
    """What the server does instead of taking a mail; each is asked with the recipient."""

    at_recipient: Callable[[str], str | None] = lambda _address: None  #: the reply that refuses it
    at_data: Callable[[str], str | None] = lambda _address: None  #: the reply to its data
    hangs_up: Callable[[str], bool] = lambda _address: False  #: when it is named, before any data
    hangs_up_after: Callable[[str], bool] = lambda _address: False  #: it is taken, and that is not said


class MailServer:
    """A running server, for as long as a `with` block; it can be stopped and started in between.

    Args:
        tls: with it, nothing is taken before STARTTLS.
        login: with it, nothing is taken before this user and password were given.

    """

    def __init__(self, *, tls: ssl.SSLContext | None = None, login: tuple[str, str] | None = None) -> None:
        self.tls = tls
        self.login = login
        self.port = 0
        self.received: list[Received] = []
        self.faults = Faults()
        self.connections = 0
        self._open: set[SMTP] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="mail server", daemon=True)

    @property
    def url(self) -> str:
        """Return its EVERGRANT_SMTP_URL, without a login."""
        return f"smtp://localhost:{self.port}"

    def start(self) -> None:
        """Listen, on the port of before where there was one."""
        self._run(self._start())

    def stop(self) -> None:
        """Stop listening; connections break."""
        self._run(self._stop())

    def wait_for(self, count: int, seconds: float = _LIMIT_S) -> list[Received]:
        """Wait for so many mails."""
        wait_until(lambda: len(self.received) >= count, seconds, f"{count} mails have come")
        return self.received

    async def until(self, count: int, seconds: float = _LIMIT_S) -> list[Received]:
        """Wait for so many mails without holding up the loop."""
        await until(lambda: len(self.received) >= count, seconds, f"{count} mails have come")
        return self.received

    def to(self, address: str) -> list[Received]:
        """Return what was taken for an address."""
        return [mail for mail in self.received if address in mail.recipients]

    def __enter__(self) -> Self:
        self._thread.start()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_LIMIT_S)
        self._loop.close()

    def _run(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_LIMIT_S)

    async def _start(self) -> None:
        self._server = await self._loop.create_server(self._made, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self._open):
            _hang_up(connection)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        if tasks:
            await asyncio.wait(tasks, timeout=_LIMIT_S)
        self._server = None

    def _made(self) -> SMTP:
        self.connections += 1
        connection = SMTP(
            _Handler(self),
            tls_context=self.tls,
            require_starttls=self.tls is not None,
            auth_required=self.login is not None,
            auth_require_tls=self.tls is not None,
            authenticator=_authenticator(self.login) if self.login is not None else None,
            enable_SMTPUTF8=True,
            loop=self._loop,
        )
        self._open.add(connection)
        return connection


class _Handler:
    """aiosmtpd's hooks."""

    def __init__(self, mails: MailServer) -> None:
        self._mails = mails

    async def handle_RCPT(  # noqa: N802 -- aiosmtpd's name
        self, server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        faults = self._mails.faults
        if faults.hangs_up(address):
            _hang_up(server)
            return "421 gone"
        refusal = faults.at_recipient(address)
        if refusal is not None:
            return refusal
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 -- as above
        faults, address = self._mails.faults, envelope.rcpt_tos[0]
        refusal = faults.at_data(address)
        if refusal is not None:
            return refusal
        assert isinstance(envelope.content, bytes)
        tell("mails", envelope.content)
        message = message_from_bytes(envelope.content, _class=EmailMessage, policy=default)
        received = Received(
            sender=str(envelope.mail_from),
            recipients=tuple(envelope.rcpt_tos),
            message=message,
            over_tls=session.ssl is not None,
        )
        self._mails.received.append(received)
        if faults.hangs_up_after(address):
            _hang_up(server)
        return "250 OK"


def _authenticator(login: tuple[str, str]) -> Callable[..., AuthResult]:
    wanted = tuple(text.encode() for text in login)

    def check(_server: Any, _session: Any, _envelope: Any, _mechanism: str, given: Any) -> AuthResult:
        fits = isinstance(given, LoginPassword) and (given.login, given.password) == wanted
        return AuthResult(success=fits, handled=fits)

    return check


def _hang_up(connection: SMTP) -> None:
    if isinstance(connection.transport, asyncio.Transport):
        connection.transport.abort()


def _part(message: EmailMessage, subtype: str) -> str:
    part = message.get_body((subtype,))
    assert part is not None
    return str(part.get_content())
