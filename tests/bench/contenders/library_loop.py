"""The refresh of a well-known library, one grant after the other, each stored before the next."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import psycopg

from tests.bench.contenders.program import Task, parser, task, tell_done, wait_for_go

Refresh = Callable[[str], dict[str, Any]]

_WARM_UP: Final = 5
_SECRET: Final = "the bench's client secret"
_STORE: Final = """
    UPDATE clear_grants
       SET refresh_token = %s, access_token = %s, expires_at = now() + %s * interval '1 second',
           rotated_at = clock_timestamp()
     WHERE id = %s
"""


def _authlib(url: str) -> Refresh:
    from authlib.integrations.requests_client import OAuth2Session  # noqa: PLC0415 -- one of two, as asked for

    session = OAuth2Session("bench", _SECRET)

    def refresh(token: str) -> dict[str, Any]:
        answer: dict[str, Any] = session.refresh_token(url, refresh_token=token)
        return answer

    return refresh


def _requests_oauthlib(url: str) -> Refresh:
    from requests_oauthlib import OAuth2Session  # noqa: PLC0415 -- one of two, as asked for

    session = OAuth2Session("bench")

    def refresh(token: str) -> dict[str, Any]:
        answer: dict[str, Any] = session.refresh_token(url, refresh_token=token, auth=("bench", _SECRET))
        return answer

    return refresh


_LIBRARIES: Final[dict[str, Callable[[str], Refresh]]] = {
    "authlib": _authlib,
    "requests-oauthlib": _requests_oauthlib,
}


def _run(its: Task, library: str) -> None:
    refresh = _LIBRARIES[library](f"{its.endpoint}/token")
    with psycopg.connect(its.database, autocommit=True) as connection:
        found = connection.execute("SELECT id, refresh_token FROM clear_grants ORDER BY id").fetchall()

        def rotate(number: int, token: str) -> None:
            answer = refresh(token)
            stored = [answer["refresh_token"], answer["access_token"], answer["expires_in"], number]
            connection.execute(_STORE, stored)

        for number, token in found[:_WARM_UP]:
            rotate(number, token)
        wait_for_go()
        deadline = time.monotonic() + its.seconds
        for number, token in found[_WARM_UP:]:
            rotate(number, token)
            if time.monotonic() > deadline:
                break


def main() -> int:
    """Refresh until there is nothing left or the time is up."""
    made = parser(__doc__)
    made.add_argument("--library", choices=_LIBRARIES, required=True)
    given = made.parse_args()
    os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"  # the endpoint is on loopback
    _run(task(given), given.library)
    tell_done()
    return 0


if __name__ == "__main__":
    sys.exit(main())
