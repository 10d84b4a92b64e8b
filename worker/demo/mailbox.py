"""The demo's mailbox: takes every mail by SMTP (aiosmtpd), keeps it in a folder, and shows it on a page of its own."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler
from aiosmtpd.smtp import SMTP, Envelope, Session
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from worker.domain.loopback import is_loopback

#: Mails that are kept; a demo of a day has some hundreds.
KEPT: Final = 500
_LINK: Final = re.compile(r"https?://\S+/reconsent/([A-Za-z0-9_-]+)")
_TEMPLATES: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
#: A mail is somebody else's page: it runs nothing, loads nothing, and its links open beside it.
_MAIL_POLICY: Final = (
    "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; style-src 'unsafe-inline'"
)
_PAGE_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; base-uri 'none'"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptMail:
    """One mail in the box."""

    number: int
    to: str
    subject: str
    at: datetime
    html: str
    link: str | None  #: the last part of its link


class Mailbox:
    """A box of mails below a folder, newest last.

    Args:
        folder: made when missing; the mails of an earlier start are still there.

    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self._folder = folder
        kept = sorted(folder.glob("*.eml"), key=lambda path: int(path.stem))
        self._mails = [_read(int(path.stem), path.read_bytes()) for path in kept]

    @property
    def mails(self) -> Sequence[KeptMail]:
        """Return all that are kept, the newest last."""
        return tuple(self._mails)

    def add(self, content: bytes) -> None:
        """Keep a mail, and drop the oldest where there are too many."""
        number = self._mails[-1].number + 1 if self._mails else 1
        # Its link is as good as the mail: for this account's eyes alone.
        descriptor = os.open(self._path(number), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        self._mails.append(_read(number, content))
        for old in self._mails[:-KEPT]:
            self._path(old.number).unlink(missing_ok=True)
        self._mails = self._mails[-KEPT:]

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.eml"


@asynccontextmanager
async def open_mailbox(folder: Path, *, smtp_port: int, page_port: int) -> AsyncIterator[Mailbox]:
    """Take mails and show them, on loopback, for as long as an `async with` block."""
    box = Mailbox(folder)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(_Handler(box), enable_SMTPUTF8=True, loop=loop), "127.0.0.1", smtp_port
    )
    runner = web.AppRunner(_pages(box), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", page_port).start()
        yield box
    finally:
        server.close()
        await runner.cleanup()


class _Handler:
    """aiosmtpd's hook."""

    def __init__(self, box: Mailbox) -> None:
        self._box = box

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 -- aiosmtpd's name
        self._box.add(bytes(envelope.original_content or b""))
        return "250 kept"


def _pages(box: Mailbox) -> web.Application:
    async def listed(_request: web.Request) -> web.Response:
        return _page("mails.html", mails=list(reversed(box.mails)))

    async def shown(request: web.Request) -> web.Response:
        return _page("mail.html", mail=_mail(box, request))

    async def content(request: web.Request) -> web.Response:
        html = _mail(box, request).html.replace("<head>", '<head><base target="_blank">', 1)
        return web.Response(text=html, content_type="text/html", headers={"Content-Security-Policy": _MAIL_POLICY})

    app = web.Application(middlewares=[_this_machine_only])
    app.add_routes(
        [
            web.get("/", listed),
            web.get(r"/{number:\d+}", shown),
            web.get(r"/{number:\d+}/content", content),
        ]
    )
    return app


@web.middleware
async def _this_machine_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    # A name that leads here from elsewhere would let its page read the mails (DNS rebinding).
    if not is_loopback(request.url.host):
        raise web.HTTPForbidden
    return await handler(request)


def _page(template: str, **values: object) -> web.Response:
    text = _TEMPLATES.get_template(template).render(**values)
    headers = {"Content-Security-Policy": _PAGE_POLICY, "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
    return web.Response(text=text, content_type="text/html", headers=headers)


def _mail(box: Mailbox, request: web.Request) -> KeptMail:
    number = int(request.match_info["number"])
    found = next((mail for mail in box.mails if mail.number == number), None)
    if found is None:
        raise web.HTTPNotFound(text="There is no such mail (any more).")
    return found


def _read(number: int, content: bytes) -> KeptMail:
    message = message_from_bytes(content, _class=EmailMessage, policy=default)
    text, html = message.get_body(("plain",)), message.get_body(("html",))
    link = _LINK.search(str(text.get_content())) if text is not None else None
    date = message["Date"].datetime if message["Date"] is not None else None
    return KeptMail(
        number=number,
        to=str(message["To"] or ""),
        subject=str(message["Subject"] or ""),
        at=date or datetime.fromtimestamp(0, tz=UTC),
        html=str(html.get_content()) if html is not None else "",
        link=link[1] if link is not None else None,
    )
