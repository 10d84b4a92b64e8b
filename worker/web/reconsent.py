"""`/reconsent/{link}`: where the button of a mail leads. Looking changes nothing; its own button begins the consent."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final
from urllib.parse import urlsplit
from uuid import UUID

from fastapi import Query, Request
from fastapi.responses import HTMLResponse, Response

from worker.bootstrap import Container
from worker.domain.errors import ConfigurationError
from worker.domain.reconsent import WhyNot
from worker.domain.secret import Secret
from worker.logging import get_logger
from worker.storage.away import AWAY
from worker.storage.mail_links import LinkedGrant, Standing
from worker.usecases.consent_results import ConsentStarted
from worker.usecases.reconsent import LinkRefused, NotOpen, OpenedLink
from worker.web.browser_mark import browser_mark, send_off
from worker.web.dependencies import TheContainer, ThePages
from worker.web.page_route import public_router
from worker.web.pages import Pages

router = public_router()
log = get_logger("evergrant.web")

#: Statuses of RFC 9110: gone for good, and not there at all.
_GONE: Final = 410
_UNKNOWN: Final = 404
_NOT_NOW: Final = 503


@router.get("/reconsent/{link}", response_model=None)
async def look(link: str, container: TheContainer, pages: ThePages) -> HTMLResponse:
    """Show what a link is about, with a button. Mail scanners open every link, so nothing else happens here."""
    try:
        opened = await container.mails.reconsent.open(Secret(link))
    except AWAY as error:
        return _database_away(pages, error)
    if isinstance(opened, LinkRefused):
        return _refused(container, pages, opened, link)
    standings = {grant.standing for grant in opened.grants}
    if len(opened.grants) == 1 and Standing.OPEN not in standings:
        return _not_open(container, pages, opened.grants[0], link)
    if standings == {Standing.HEALTHY}:
        return pages.message(200, "All is well", "All that this mail was about are connected. There is nothing to do.")
    return _to_press(container, pages, opened, link)


@router.post("/reconsent/{link}", response_model=None)
async def press(
    request: Request, link: str, container: TheContainer, pages: ThePages, *, grant: Annotated[str, Query()] = ""
) -> Response:
    """Use the link for one of its grants, and send the browser to the provider."""
    try:
        pressed = await container.mails.reconsent.press(Secret(link), UUID(grant), browser_mark(request, container))
    except ValueError:
        return _refused(container, pages, LinkRefused.UNKNOWN, link)
    except ConfigurationError:
        text = "The service that it is for is not set up here any more. Nothing was changed."
        return pages.message(_UNKNOWN, "Not here any more", text)
    except AWAY as error:
        return _database_away(pages, error)
    match pressed:
        case LinkRefused():
            return _refused(container, pages, pressed, link)
        case NotOpen(grant=refused):
            return _not_open(container, pages, refused, link)
        case ConsentStarted():
            return send_off(pressed, container, status=303)


@router.post("/reconsent/{link}/again", response_model=None)
async def ask_again(link: str, container: TheContainer, pages: ThePages) -> HTMLResponse:  # noqa: PLR0911 -- one page each
    """Send a new link to the address that the first one went to."""
    if not container.mails.requests.sends:
        return _refused(container, pages, LinkRefused.UNKNOWN, link)
    try:
        asked = await container.mails.reconsent.ask_again(Secret(link))
    except AWAY as error:
        return _database_away(pages, error)
    if isinstance(asked, LinkRefused):
        return _refused(container, pages, asked, link)
    match asked:
        case None:
            return pages.message(200, "A new link is on its way", "It comes to the mailbox that this one came to.")
        case WhyNot.UNDER_WAY | WhyNot.ASKED_BEFORE | WhyNot.COOLING_DOWN:
            text = "It went out a few minutes ago. Look for it in your mailbox, among unwanted mail too."
            return pages.message(200, "There is a newer mail", text)
        case WhyNot.NOT_NEEDED:
            return pages.message(200, "Nothing to do", "Nobody waits for this authorization any more.")
        case WhyNot.NO_ADDRESS | WhyNot.CAPPED | WhyNot.ADDRESS_REFUSED | WhyNot.NOT_CONFIGURED:
            text = "We cannot send another link by ourselves. Ask whoever runs this service for one."
            return pages.message(_GONE, "No further mail", text)


def _to_press(container: Container, pages: Pages, opened: OpenedLink, link: str) -> HTMLResponse:
    standings = {grant.standing for grant in opened.grants}
    rows = [(grant, _client_name(container, grant), _where(container, grant)) for grant in opened.grants]
    page = pages.render(
        "reconsent.html",
        rows=rows,
        expires_at=opened.expires_at,
        link=link,
        to_press=Standing.OPEN in standings,
        closed=not standings.isdisjoint({Standing.USED, Standing.OUTDATED}),
        sends=container.mails.requests.sends,
    )
    # A form's limit holds for where its answer redirects to as well, and a provider may redirect further.
    origins = " ".join(sorted({origin for grant in opened.grants for origin in _clear_origins(container, grant)}))
    policy = (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
        f"form-action 'self' https: {origins}".strip()
    )
    page.headers["Content-Security-Policy"] = f"{policy}; base-uri 'none'; frame-ancestors 'none'"
    page.headers["X-Robots-Tag"] = "noindex"
    return page


def _refused(container: Container, pages: Pages, refused: LinkRefused, link: str) -> HTMLResponse:
    match refused:
        case LinkRefused.UNKNOWN:
            text = "Open it from the mail itself, whole, or take the newest mail if there are several."
            return pages.message(_UNKNOWN, "We do not know this link", text)
        case LinkRefused.EXPIRED:
            return _offer(
                container, pages, link, "This link has run out", "Links in mails are good for some days only."
            )


def _not_open(container: Container, pages: Pages, grant: LinkedGrant, link: str) -> HTMLResponse:
    client = _client_name(container, grant)
    match grant.standing:
        case Standing.HEALTHY | Standing.OPEN:
            text = f"{grant.subject} is connected through {client}. There is nothing to do."
            return pages.message(200, "All is well", text)
        case Standing.USED:
            text = (
                f"It was used {_when(grant.used_at)}. If you saw “Connected” then, all is well. "
                "If you did not come to the end, take a new link: each is good for one time."
            )
            return _offer(container, pages, link, "This link was used", text)
        case Standing.OUTDATED:
            return _offer(container, pages, link, "There is a newer mail", "This link belongs to an earlier one.")
        case Standing.ENDED:
            text = f"Whoever runs this service has ended or paused {grant.subject} at {client}. Ask there."
            return pages.message(_GONE, "Nobody waits for this any more", text)


def _offer(container: Container, pages: Pages, link: str, title: str, text: str) -> HTMLResponse:
    """Return a page that offers to send a new link, where there is a server to send it through."""
    if not container.mails.requests.sends:
        return pages.message(_GONE, title, f"{text} Ask whoever runs this service for a new one.")
    return pages.render("reconsent_again.html", _GONE, title=title, text=text, link=link)


def _database_away(pages: Pages, error: BaseException) -> HTMLResponse:
    log.error("reconsent_not_begun", error=type(error).__name__)
    text = "Our database does not answer. Wait a moment and open the link again: it was not used."
    return pages.message(_NOT_NOW, "Not now", text)


def _client_name(container: Container, grant: LinkedGrant) -> str:
    client = container.configuration.registry.clients.get(grant.client)
    return client.display_name if client is not None else grant.client


def _where(container: Container, grant: LinkedGrant) -> str | None:
    """Return the host that the button leads to, so that its owner knows what to expect."""
    client = container.configuration.registry.clients.get(grant.client)
    address = client.provider.authorization_endpoint if client is not None else None
    return urlsplit(address).hostname if address is not None else None


def _clear_origins(container: Container, grant: LinkedGrant) -> list[str]:
    """Return the provider's origin where it is not https, as on loopback."""
    client = container.configuration.registry.clients.get(grant.client)
    parts = urlsplit(client.provider.authorization_endpoint or "") if client is not None else None
    return [f"http://{parts.netloc}"] if parts is not None and parts.scheme == "http" else []


def _when(at: datetime | None) -> str:
    return f"on {at:%Y-%m-%d at %H:%M} UTC" if at is not None else "before"
