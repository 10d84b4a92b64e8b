"""What a provider offers beside the token endpoint: giving a token back, and asking whether one is still good."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import Enum, auto

import httpx

from worker.domain.secret import Secret
from worker.oauth.client import Client
from worker.oauth.client_authentication import Stamp
from worker.oauth.exchange import UnansweredError, exchange
from worker.oauth.request_values import UnfilledError
from worker.oauth.token_answer import read_object
from worker.oauth.token_request import Given, TokenRequest, introspection_request, revocation_request

_Build = Callable[[Client, str, Secret, Secret | None, Given], TokenRequest]


class Introspected(Enum):
    """What a provider says of a refresh token (RFC 7662 section 2.2)."""

    GOOD = auto()
    SPENT = auto()  #: not active: spent, revoked or expired
    UNKNOWN = auto()  #: there is no such endpoint, or it did not say


class TokenTools:
    """Revocation and introspection, through the process's HTTP client. Neither presents a token."""

    def __init__(self, http: httpx.AsyncClient, stamp: Callable[[], Stamp] | None = None) -> None:
        self._http = http
        self._stamp = stamp

    async def revoke(
        self,
        client: Client,
        refresh_token: Secret,
        *,
        access_token: Secret | None = None,
        captured: Mapping[str, str] | None = None,
    ) -> bool:
        """Give a refresh token back (RFC 7009); tell whether the provider took it. Raises nothing expected."""
        given = Given(access_token=access_token, captured=captured or {})
        url = client.provider.revocation_endpoint
        return url is not None and await self._ask(client, url, refresh_token, revocation_request, given) is not None

    async def introspect(
        self, client: Client, refresh_token: Secret, *, captured: Mapping[str, str] | None = None
    ) -> Introspected:
        """Ask whether a refresh token is still good (RFC 7662), without presenting it. Raises nothing expected."""
        given = Given(captured=captured or {})
        url = client.provider.introspection_endpoint
        if url is None:
            return Introspected.UNKNOWN
        answer = await self._ask(client, url, refresh_token, introspection_request, given)
        active = answer.get("active") if answer is not None else None
        if active is True:
            return Introspected.GOOD
        return Introspected.SPENT if active is False else Introspected.UNKNOWN

    async def _ask(
        self, client: Client, url: str, refresh_token: Secret, build: _Build, given: Given
    ) -> dict[str, object] | None:
        """Return the answer's object, empty where a success has none, or None where there was no success."""
        limit = client.provider.request_timeout.total_seconds()
        for secret in client.client_secrets or (None,):
            stamped = replace(given, stamp=self._stamp()) if self._stamp is not None else given
            try:
                answer = await exchange(self._http, build(client, url, refresh_token, secret, stamped), limit)
            except UnfilledError:
                return None
            except UnansweredError as error:
                # A status is an answer to a revocation, whatever became of the body behind it.
                if error.read is None:
                    return None
                answer = error.read
            if 200 <= answer.status < 300:  # noqa: PLR2004 -- the class of statuses, RFC 9110 section 15.3
                return read_object(answer) or {}
        return None
