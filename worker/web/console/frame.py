"""The frame around every page of the console, and how a page goes on after an act."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final
from urllib.parse import urlencode
from uuid import UUID

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from worker.bootstrap import Container
from worker.oauth.client import Client
from worker.storage.grants import GrantView
from worker.web.dependencies import TheContainer, ThePages
from worker.web.page_route import PersonHere, ThePerson, not_there
from worker.web.pages import Pages

#: RFC 9110 section 15.4.4: go on with a GET, so that a reload repeats nothing.
_SEE_OTHER: Final = 303


class Console:
    """What a page is made with: the container, whoever looks, and the frame.

    Args:
        request: the one that is answered.
        person: who looks at it.
        container: the process's.
        pages: renders templates.

    """

    def __init__(self, request: Request, person: PersonHere, container: Container, pages: Pages) -> None:
        self.request, self.person, self.container = request, person, container
        self._pages = pages

    @property
    def clients(self) -> Mapping[str, Client]:
        """The configured clients that are the person's business."""
        configured = self.container.configuration.registry.clients
        return {name: client for name, client in configured.items() if self.person.sees(name)}

    def show(self, template: str, status: int = 200, **values: Any) -> HTMLResponse:  # noqa: ANN401 -- as the template asks
        """Return a page."""
        url = self.request.url
        return self._pages.render(
            template,
            status,
            here=url.path,
            live=f"{url.path}?{url.query}" if url.query else url.path,
            clients=self.clients,
            version=self.request.app.version,
            metrics_here=self.container.settings.metrics_port is None,
            person=self.person,
            may_act=self.person.may("operator"),
            **values,
        )

    async def grant(self, grant_id: UUID) -> GrantView:
        """Return a grant, if it is the person's business.

        Raises:
            Refused: 404.

        """
        grant = await self.container.grants.show(grant_id)
        if grant is None or not self.person.sees(grant.client):
            raise not_there("grant")
        return grant


async def _console(request: Request, person: ThePerson, container: TheContainer, pages: ThePages) -> Console:
    return Console(request, person, container, pages)


TheConsole = Annotated[Console, Depends(_console)]


def go_to(
    path: str, query: Mapping[str, str | int | None] | Sequence[tuple[str, str | int]] | None = None
) -> RedirectResponse:
    """Return the answer to a form: go on to a page of ours."""
    pairs = query.items() if isinstance(query, Mapping) else query or ()
    chosen = [(name, value) for name, value in pairs if value is not None]
    return RedirectResponse(f"{path}?{urlencode(chosen)}" if chosen else path, _SEE_OTHER)
