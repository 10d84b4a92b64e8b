"""The mark that a browser has from us: what binds a consent under way to it (RFC 6749 section 10.12)."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from fastapi import Request
from fastapi.responses import RedirectResponse

from worker.bootstrap import Container
from worker.domain.secret import Secret
from worker.usecases.consent_results import ConsentStarted

#: Longer than a consent takes: who comes back too late is still known, and is told what to do next.
MARK_LIFETIME: Final = timedelta(days=1)
_COOKIE: Final = "evergrant_browser"


def browser_mark(request: Request, container: Container) -> Secret | None:
    """Return the mark that a browser brings, or None where it has none."""
    value = request.cookies.get(_cookie(container))
    return Secret(value) if value else None


def send_off(started: ConsentStarted, container: Container, *, status: int = 302) -> RedirectResponse:
    """Send a browser to the provider, with the mark that it must bring back.

    Args:
        started: what `ConsentFlow.begin` returned.
        container: knows the public URL, and so whether the cookie can be bound to https.
        status: 303 after a POST.

    """
    response = RedirectResponse(started.location.reveal(), status_code=status)
    response.set_cookie(
        _cookie(container),
        started.browser.reveal(),
        max_age=int(MARK_LIFETIME.total_seconds()),
        path="/",
        secure=_is_https(container),
        httponly=True,
        samesite="lax",  # the provider's redirect back is a top-level navigation, with which "lax" cookies go
    )
    return response


def _cookie(container: Container) -> str:
    return f"__Host-{_COOKIE}" if _is_https(container) else _COOKIE


def _is_https(container: Container) -> bool:
    return container.settings.public_url.startswith("https://")
