"""People who have signed in: an HTTP client or a browser with a session of a role, bound to a client or to none."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, cast
from uuid import uuid4

import httpx

from tests.support.running_web import RunningWeb
from worker.domain.roles import Role
from worker.domain.secret import Secret
from worker.settings import Settings
from worker.storage.database import create_engine
from worker.storage.sealing import KeyRing, parse_keys
from worker.storage.sessions import Person, SessionStore
from worker.storage.sign_in_links import BY_LINK, SignInLinks
from worker.usecases.sessions import Sessions
from worker.web.page_route import CSRF_HEADER
from worker.web.session_cookie import cookie_name


def somebody(role: Role = Role.ADMIN, *, client: str | None = None, name: str = "Ada") -> Person:
    """Return a person of a role."""
    return Person(issuer=BY_LINK, subject=name, name=name, role=role, client=client)


@contextmanager
def signed_in(
    web: RunningWeb, role: Role = Role.ADMIN, *, client: str | None = None, name: str = "Ada"
) -> Iterator[httpx.Client]:
    """Open an HTTP client with a new session of a role; what it posts has the session's CSRF token."""
    sessions = web.container.sessions
    _id, cookie = web.run(sessions.begin(somebody(role, client=client, name=name), address=None, agent="test"))
    found = web.run(sessions.recognize(cookie, in_use=True))
    assert found is not None
    with httpx.Client(
        base_url=web.url,
        cookies={cookie_name(web.container.settings.public_url): cookie.reveal()},
        headers={CSRF_HEADER: found.csrf.reveal()},
        trust_env=False,
        timeout=60,
    ) as http:
        yield http


def session_cookie(
    settings: Settings, role: Role = Role.ADMIN, *, client: str | None = None, name: str = "Ada"
) -> dict[str, str]:
    """Begin a session in the settings' database, and return its cookie's name and value as a browser is given them."""

    async def begin() -> Secret:
        engine = create_engine(settings.require_database(), connections=1, name="test sign-in")
        hour = timedelta(hours=1)
        sessions = Sessions(
            registry=cast("Any", None),  # asked for links alone
            store=SessionStore(engine, hour),
            links=SignInLinks(engine),
            keys=KeyRing(parse_keys(settings.require_keys()), os.urandom),
            lifetime=hour,
            random_bytes=os.urandom,
            new_id=uuid4,
        )
        try:
            _id, cookie = await sessions.begin(somebody(role, client=client, name=name), address=None, agent="test")
        finally:
            await engine.dispose()
        return cookie

    # In a thread of its own: Playwright keeps an event loop in the test's.
    with ThreadPoolExecutor(1) as thread:
        cookie = thread.submit(asyncio.run, begin()).result()
    return {"name": cookie_name(settings.public_url), "value": cookie.reveal()}
