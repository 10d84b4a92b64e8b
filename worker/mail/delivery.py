"""Handing mails to the server (RFC 5321), one connection for as many as there are.

aiosmtplib speaks the protocol: it runs on the event loop that everything else runs on, with a time limit on each step,
where the standard library's client would hold a thread that nobody can call back. The commands of a mail are sent one
by one here, because what a failure means depends on which of them it met: before DATA nothing was handed over.
"""

from __future__ import annotations

import asyncio
import ssl
from email.message import EmailMessage
from email.policy import SMTPUTF8
from enum import Enum, auto
from typing import Final

import aiosmtplib
from aiosmtplib import SMTPAuthenticationError, SMTPException, SMTPRecipientRefused, SMTPResponseException

from worker.domain.delivery import Accepted, Deferred, Delivery, Doubtful, Refused, Trouble, readable
from worker.mail.server import MailServer, Starttls

#: Seconds to connect, and for each command: a server that makes spammers wait does so for half a minute.
CONNECT_SECONDS: Final = 15.0
COMMAND_SECONDS: Final = 60.0
#: Seconds after the last line of a mail: RFC 5321 section 4.5.3.2.6 asks for ten minutes, for whoever gives up sooner
#: sends a second time what the server was about to take.
DATA_SECONDS: Final = 600.0
#: Seconds for a whole mail: connecting, logging in, its commands, the data, and a second connection where one broke.
LONGEST_DELIVERY: Final = 900.0
#: Seconds to say goodbye.
_QUIT_SECONDS: Final = 5.0
#: The server will close the connection (RFC 5321 section 3.8), whatever it was asked.
_CLOSING: Final = 421
_PERMANENT: Final = 500
_NO_UTF8: Final = "the server takes no address with such letters (it lacks SMTPUTF8, RFC 6531)"


class _Stage(Enum):
    """How far a mail has come: what a broken connection means depends on it."""

    SERVER = auto()  #: connecting, logging in, naming ourselves
    RECIPIENT = auto()
    DATA = auto()  #: handed over


class Delivering:
    """Hands in mails over one connection, which is opened when it is needed and again when it broke.

    Args:
        server: where to.
        hello: the name under which we introduce ourselves: a host's, or an address in brackets.
        tls: which certificates are trusted.

    """

    def __init__(self, server: MailServer, hello: str, tls: ssl.SSLContext) -> None:
        self._server = server
        self._hello = hello
        self._tls = tls
        self._smtp: aiosmtplib.SMTP | None = None
        self._stage = _Stage.SERVER

    async def deliver(self, message: EmailMessage) -> Delivery:
        """Hand in one mail, and say what became of it."""
        was_open = self._smtp is not None
        try:
            async with asyncio.timeout(LONGEST_DELIVERY):
                delivery = await self._attempt(message)
                if was_open and self._smtp is None and self._stage is not _Stage.DATA:
                    # A connection that was used before may have been closed meanwhile; a new one tells.
                    delivery = await self._attempt(message)
        except TimeoutError:
            return self._lost(None, "timed out")
        return delivery

    async def close(self) -> None:
        """Say goodbye."""
        smtp, self._smtp = self._smtp, None
        if smtp is None:
            return
        try:
            await smtp.quit(timeout=_QUIT_SECONDS)
        except (SMTPException, OSError):
            pass
        finally:
            smtp.close()

    async def _attempt(self, message: EmailMessage) -> Delivery:
        self._stage = _Stage.SERVER
        try:
            smtp = await self._connected()
            refusal = await self._envelope(smtp, message)
            if refusal is not None:
                return refusal
        except SMTPAuthenticationError as error:  # what the server says here may repeat what it was sent
            return self._lost(error.code, "the mail server does not accept our user and password")
        except SMTPResponseException as error:
            return self._lost(error.code, readable(error.message))
        except (SMTPException, OSError) as error:
            return self._lost(None, _what(error))
        return await self._data(smtp, message)

    def _lost(self, status: int | None, what: str) -> Delivery:
        """Drop the connection, and say what that means at the stage that was reached."""
        self._drop()
        match self._stage:
            case _Stage.SERVER:
                return Trouble(status=status, what=what)
            case _Stage.RECIPIENT:  # it speaks to us, and not about this one
                return Deferred(status=status, reply=what)
            case _Stage.DATA:
                return Doubtful(what=what)

    def _drop(self) -> None:
        smtp, self._smtp = self._smtp, None
        if smtp is not None:
            smtp.close()

    async def _connected(self) -> aiosmtplib.SMTP:
        if self._smtp is not None and self._smtp.is_connected:
            return self._smtp
        self._smtp = await open_connection(self._server, self._hello, self._tls)
        return self._smtp

    async def _envelope(self, smtp: aiosmtplib.SMTP, message: EmailMessage) -> Delivery | None:
        """Name sender and recipients; returns why that is the end of it, or None where the data may follow."""
        addresses = [address.addr_spec for address in message["To"].addresses]
        needs_utf8 = message.policy is SMTPUTF8
        if needs_utf8 and not smtp.supports_extension("smtputf8"):
            return Refused(status=None, reply=_NO_UTF8)
        [sender] = message["From"].addresses
        encoding = "utf-8" if needs_utf8 else "ascii"
        await smtp.mail(sender.addr_spec, options=["SMTPUTF8"] if needs_utf8 else [], encoding=encoding)
        self._stage = _Stage.RECIPIENT
        refusals = []
        for address in addresses:
            try:
                await smtp.rcpt(address, encoding=encoding)
            except SMTPRecipientRefused as error:
                if error.code == _CLOSING:
                    raise
                refusals.append(error)
        if len(refusals) < len(addresses):
            return None
        try:
            await smtp.rset()
        except (SMTPException, OSError):  # some servers hang up after a refusal, which counts all the same
            self._drop()
        # Where one of several might be taken later, all are tried again.
        chosen = min(refusals, key=lambda error: error.code >= _PERMANENT)
        return _said(chosen)

    async def _data(self, smtp: aiosmtplib.SMTP, message: EmailMessage) -> Delivery:
        self._stage = _Stage.DATA
        try:
            await smtp.data(message.as_bytes(), timeout=DATA_SECONDS)
        except SMTPResponseException as error:
            if error.code < 0:  # aiosmtplib's word for an answer that is none
                return self._lost(None, readable(error.message))
            if error.code == _CLOSING:
                self._drop()
            return _said(error)
        except (SMTPException, OSError) as error:
            return self._lost(None, _what(error))
        return Accepted()


async def open_connection(server: MailServer, hello: str, tls: ssl.SSLContext) -> aiosmtplib.SMTP:
    """Connect to a mail server, encrypt as its URL says, and sign in.

    Args:
        server: where.
        hello: how this host introduces itself.
        tls: verification settings.

    Raises:
        SMTPException: what the server said, or that it is not to be had.
        OSError: likewise.

    """
    smtp = aiosmtplib.SMTP(
        hostname=server.host,
        port=server.port,
        username=server.username,
        password=server.password.reveal() if server.password is not None else None,
        local_hostname=hello,
        timeout=COMMAND_SECONDS,
        use_tls=server.tls,
        start_tls={Starttls.REQUIRED: True, Starttls.OPTIONAL: None, Starttls.OFF: False}[server.starttls]
        if not server.tls
        else False,
        tls_context=tls,
    )
    async with asyncio.timeout(CONNECT_SECONDS + COMMAND_SECONDS):
        await smtp.connect(timeout=CONNECT_SECONDS)
        if smtp.is_ehlo_or_helo_needed:
            await smtp.ehlo()
    return smtp


def hello_name(host: str) -> str:
    """Return how a host introduces itself: its name, or its address in brackets (RFC 5321 section 4.1.3)."""
    if ":" in host:
        return f"[IPv6:{host}]"
    return f"[{host}]" if host.replace(".", "").isdigit() else host


def _said(error: SMTPResponseException) -> Refused | Deferred:
    reply = readable(error.message)
    if error.code >= _PERMANENT:
        return Refused(status=error.code, reply=reply)
    return Deferred(status=error.code, reply=reply)


def _what(error: BaseException) -> str:
    """Return why the server could not be asked; what the operating system says holds no secret."""
    said = error.message if isinstance(error, SMTPException) else str(error)
    return readable(said) or type(error).__name__
