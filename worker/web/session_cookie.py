"""The cookie that holds a session: bound to this host, unseen by scripts, not sent along from other sites."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from fastapi import Request, Response

from worker.bootstrap import Container
from worker.domain.loopback import is_loopback
from worker.domain.secret import Secret

_NAME: Final = "evergrant_session"


def may_hold_sessions(container: Container) -> bool:
    """Tell whether a cookie is safe under the public URL: over https, or without leaving this machine."""
    parts = urlsplit(container.settings.public_url)
    return parts.scheme == "https" or is_loopback(parts.hostname)


def cookie_name(public_url: str, name: str = _NAME) -> str:
    """Return a cookie's name under a public URL: with the prefix that binds it to its host, wherever browsers know it.

    The prefix asks for https. On loopback without it, the port keeps several installations apart: cookies do not.
    """
    parts = urlsplit(public_url)
    return f"__Host-{name}" if parts.scheme == "https" else f"{name}_{parts.port or 80}"


def brought_session(request: Request, container: Container) -> Secret | None:
    """Return what a browser's session cookie holds, or None where it brings none."""
    value = request.cookies.get(cookie_name(container.settings.public_url))
    return Secret(value) if value else None


def hand_out_session(response: Response, container: Container, cookie: Secret, seconds: int) -> None:
    """Give a browser its session.

    Args:
        response: goes to the browser.
        container: knows the public URL.
        cookie: what `Sessions.begin` returned.
        seconds: until the session ends for good.

    """
    set_cookie(response, container, cookie_name(container.settings.public_url), cookie.reveal(), seconds)


def take_back_session(response: Response, container: Container) -> None:
    """Make a browser forget its session."""
    set_cookie(response, container, cookie_name(container.settings.public_url), "", 0)


def set_cookie(response: Response, container: Container, name: str, value: str, seconds: int) -> None:
    """Set one of the cookies of signing in; with 0 seconds the browser forgets it."""
    response.set_cookie(
        name,
        value,
        max_age=seconds,
        path="/",
        secure=container.settings.public_url.startswith("https://"),
        httponly=True,
        # Not "strict": whoever comes from a mail, a ticket or the OpenID provider would seem to be signed out.
        samesite="lax",
    )
