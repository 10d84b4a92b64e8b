"""Rendering pages: Jinja2 templates, everything escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from worker.web.words import (
    ago,
    clock,
    day,
    instant,
    lasting,
    mail_kind,
    mail_state,
    number,
    plain_event,
    plain_reason,
    plain_state,
    short_reason,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Where a page leads to."""

    label: str
    href: str


class Pages:
    """Renders the templates of one folder."""

    def __init__(self, folder: Path) -> None:
        self._templates = Environment(
            loader=FileSystemLoader(folder),
            autoescape=select_autoescape(default=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {
            "ago": ago,
            "clock": clock,
            "day": day,
            "instant": instant,
            "lasting": lasting,
            "mail_kind": mail_kind,
            "mail_state": mail_state,
            "number": number,
            "plain_event": plain_event,
            "plain_reason": plain_reason,
            "plain_state": plain_state,
            "short_reason": short_reason,
        }

    def render(self, template: str, status: int = 200, **values: object) -> HTMLResponse:
        """Return a page as an answer."""
        return HTMLResponse(self._templates.get_template(template).render(**values), status_code=status)

    def message(
        self, status: int, title: str, text: str, *, links: Sequence[Link] = (), good: bool | None = None
    ) -> HTMLResponse:
        """Return a page that says one thing to a person, and what to do next.

        Args:
            status: of the answer.
            title: what happened.
            text: why, and what to do next.
            links: where to go from here, the first as a button.
            good: whether all is well; by the status where it is left out.

        """
        is_good = status < 400 if good is None else good  # noqa: PLR2004 -- RFC 9110: 4xx and 5xx are errors
        return self.render("message.html", status, title=title, text=text, links=links, good=is_good)
