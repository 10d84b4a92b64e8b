"""Renders the sandbox's pages: self-contained, escaped, and shut to scripts and frames."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, Response

_TEMPLATES: Final = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_HEADERS: Final = {
    # No form-action: browsers apply it to the redirect that answers the form, which leads to the client.
    "content-security-policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}


def page(template: str, *, status: HTTPStatus = HTTPStatus.OK, **values: object) -> Response:
    """Return a page made from a file in `templates/`; a value that the template misses is an error."""
    return HTMLResponse(_TEMPLATES.get_template(template).render(values), status, _HEADERS)
