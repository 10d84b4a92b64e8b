"""Walks a resource owner through an authorization server's login and consent forms, as a browser would."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Final
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx

#: Login, consent and the redirects between them are seven answers; more is a loop.
_MAX_ANSWERS: Final = 20
#: What the input is called that takes the owner's name: by oidc-provider and the small applications, and by Django.
_NAME_INPUTS: Final = {"login", "username"}
#: How much of an unexpected page an error message repeats, in characters.
_PAGE_EXCERPT: Final = 2000


class ConsentWalkError(RuntimeError):
    """The walk did not come back to the client; the message says where it stopped and what stood there."""


@dataclass(slots=True)
class _Form:
    action: str
    method: str
    inputs: dict[str, str] = field(default_factory=dict)


class _Forms(HTMLParser):
    """Collects the forms of a page with the inputs that have a name."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[_Form] = []
        self._is_inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(_Form(action=values.get("action", ""), method=values.get("method", "get").lower()))
            self._is_inside = True
        elif tag == "input" and self._is_inside and values.get("name"):
            self.forms[-1].inputs[values["name"]] = values.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._is_inside = False


def walk_consent(http: httpx.Client, authorize_url: str, login: str) -> str:
    """Sign in as `login`, consent to everything, and return where the owner's browser is sent in the end.

    Only the authorization server is asked: the redirect back to the client is returned, not followed. Use a new
    `httpx.Client` for each owner and walk: its cookies are the owner's session. In a session that it knows, the server
    asks for no login, so that another `login` would change nothing, and oidc-provider puts a second consent for the
    same client into the first one's grant, so that one reused refresh token would end both.

    Args:
        http: keeps the cookies; what it says about following redirects is not used.
        authorize_url: the whole authorization request (RFC 6749 section 4.1.1). oidc-provider gives a refresh token
            where the scope `offline_access` is asked for with `prompt=consent` (OpenID Connect Core section 11).
        login: the owner's name at the server; it becomes the `sub`, any name is known.

    Returns:
        The redirect to the client, with `code`, `state` and `iss`, or with `error` where the server sends one there.

    Raises:
        ConsentWalkError: an error page, a page without a form, a redirect to a third place, or a loop.
    """
    answer = http.get(authorize_url, follow_redirects=False)
    for _ in range(_MAX_ANSWERS):
        if answer.is_redirect:
            target = urljoin(str(answer.url), answer.headers["location"])
            if _origin(target) != _origin(authorize_url):
                return _checked_return(target, authorize_url)
            answer = http.get(target, follow_redirects=False)
        else:
            answer = _submit(http, answer, login)
    message = f"after {_MAX_ANSWERS} answers the walk is still at {_place(str(answer.url))}"
    raise ConsentWalkError(message)


def _submit(http: httpx.Client, page: httpx.Response, login: str) -> httpx.Response:
    place = _place(str(page.url))
    reader = _Forms()
    reader.feed(page.text)
    if page.status_code != httpx.codes.OK or len(reader.forms) != 1:
        message = (
            f"{place} answered {page.status_code} with {len(reader.forms)} forms where a page with one form was"
            f" expected:\n{page.text[:_PAGE_EXCERPT]}"
        )
        raise ConsentWalkError(message)
    form = reader.forms[0]
    if form.method != "post":
        message = f"the form at {place} is sent by {form.method}; login and consent are expected to be a post"
        raise ConsentWalkError(message)
    filled = dict(form.inputs)
    for name in _NAME_INPUTS & filled.keys():
        filled |= {name: login, "password": "any password is right here"}
    return http.post(urljoin(str(page.url), form.action), data=filled, follow_redirects=False)


def _checked_return(target: str, authorize_url: str) -> str:
    registered = parse_qs(urlsplit(authorize_url).query).get("redirect_uri")
    if registered is not None and _place(target) != _place(registered[0]):
        message = f"the server redirected to {_place(target)}, and the request's redirect_uri is {registered[0]}"
        raise ConsentWalkError(message)
    return target


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _place(url: str) -> str:
    """Leave the query out: it can hold a code."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"
