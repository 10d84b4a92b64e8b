"""The JSON API as a program uses it: an HTTP client with an API token on a running web process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx

from tests.support.running_web import RunningWeb
from worker.domain.roles import Role

#: Members that every problem document has (RFC 9457 section 3.1).
_MEMBERS = {"type", "title", "status", "detail"}


@contextmanager
def api(web: RunningWeb, role: Role = Role.ADMIN, *, client: str | None = None) -> Iterator[httpx.Client]:
    """Open an HTTP client that holds a new API token of a role, bound to a client or to none."""
    with httpx.Client(
        base_url=web.url,
        headers={"Authorization": f"Bearer {make_token(web, role, client=client)}"},
        trust_env=False,
        timeout=60,
    ) as http:
        yield http


def make_token(web: RunningWeb, role: Role = Role.ADMIN, *, client: str | None = None) -> str:
    """Make an API token and return it."""
    _token_id, token = web.run(web.container.api_access.create(role, client=client, name="a test's"))
    return token.reveal()


def problem(answer: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """See that an answer is the problem document of a kind, and return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert set(found) >= _MEMBERS
    assert (found["type"], found["status"]) == (f"urn:evergrant:problem:{kind}", status), found
    return found


def once() -> dict[str, str]:
    """Return the header of a request that has not been made yet."""
    return {"Idempotency-Key": uuid4().hex}
