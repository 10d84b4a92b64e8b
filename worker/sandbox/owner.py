"""A resource owner at the sandbox's page: opens an authorization link and allows or denies it, as a browser would."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Final
from urllib.parse import urljoin

import httpx

_TIMEOUT_S: Final = 30.0  # the page is there in milliseconds, unless the machine is busy


class ConsentPageError(Exception):
    """The link led to an error page, or to no consent page at all."""


def allow(authorization_url: str, *, account: str) -> str:
    """Allow what an authorization link asks for, as `account`, and return the redirect to the client.

    The redirect is not followed; it carries `code` and `state`, or `error` where the sandbox refused the request.

    Raises:
        ConsentPageError: the sandbox showed an error page.
    """
    return _decide(authorization_url, {"account": account, "decision": "allow"})


def deny(authorization_url: str) -> str:
    """Deny what an authorization link asks for, and return the redirect to the client, with `error`.

    Raises:
        ConsentPageError: the sandbox showed an error page.
    """
    return _decide(authorization_url, {"decision": "deny"})


def _decide(authorization_url: str, decision: dict[str, str]) -> str:
    with httpx.Client(timeout=_TIMEOUT_S, trust_env=False) as browser:
        shown = browser.get(authorization_url)
        if shown.is_redirect:
            return shown.headers["location"]
        form = _Form()
        form.feed(shown.text)
        if shown.is_error or form.action is None:
            message = f"no consent page at the authorization link: {shown.status_code} {form.problem}".rstrip()
            raise ConsentPageError(message)
        decided = browser.post(urljoin(authorization_url, form.action), data=form.fields | decision)
        if not decided.is_redirect:
            message = f"the consent form led to no redirect: {decided.status_code}"
            raise ConsentPageError(message)
        return decided.headers["location"]


@dataclass
class _Form(HTMLParser):
    """The page's form: where it goes, its filled-in fields, and the problem that an error page shows instead."""

    action: str | None = None
    fields: dict[str, str] = field(default_factory=dict)
    problem: str = ""
    _reads_problem: bool = False

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.action = values["action"]
        elif tag == "input":
            self.fields[values["name"]] = values.get("value", "")
        self._reads_problem = values.get("role") == "alert"

    def handle_data(self, data: str) -> None:
        if self._reads_problem:
            self.problem += data.strip()
