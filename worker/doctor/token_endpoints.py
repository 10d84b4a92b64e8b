"""Every client's token endpoint: whether it is reached with TLS. What is sent spends nothing and names nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import httpx

from worker.doctor.finding import Finding, error, ok, warning
from worker.oauth.client import Client
from worker.oauth.http_client import ROUTE
from worker.oauth.http_pool import PrivateAddressError
from worker.oauth.placeholders import fill, names_in
from worker.oauth.route import route

#: Seconds for one endpoint: connect, TLS and the answer to a HEAD.
PATIENCE: Final = 10.0
AT_ONCE: Final = 10
#: Seconds by which a provider's clock may be off before signed assertions suffer; `Date` has whole seconds.
SKEW_SECONDS: Final = 10.0


async def check_token_endpoints(
    http: httpx.AsyncClient, clients: Sequence[Client], now: Callable[[], datetime]
) -> list[Finding]:
    """Ask each client's token endpoint for its headers, without a token and without credentials.

    Any answer will do, for an endpoint that takes POST alone refuses this with one.

    Args:
        http: made by `create_http_client`.
        clients: as configured.
        now: this machine's clock.

    """
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(client: Client) -> Finding:
        async with limit:
            return await _check(http, client, now)

    return list(await asyncio.gather(*(one(client) for client in clients)))


async def _check(http: httpx.AsyncClient, client: Client, now: Callable[[], datetime]) -> Finding:
    provider = client.provider
    check = f"client {client.name}"
    template = provider.refresh.endpoint or provider.token_endpoint or ""
    url = fill(template, client.placeholders)
    if names_in([url]):
        return ok(check, "its token endpoint is each grant's own, and was not asked")
    host = urlsplit(url).hostname or url
    auth = provider.refresh.client_auth or provider.client_auth
    try:
        answer = await http.request("HEAD", url, timeout=PATIENCE, extensions={ROUTE: route(client, template, auth)})
    except httpx.HTTPError as failed:
        return error(check, f"{host} cannot be reached: {_why(failed)}", _remedy(failed))
    said = answer.headers.get("date")
    skew = _skew(said, now()) if said else None
    if skew is not None and abs(skew) > SKEW_SECONDS:
        return warning(check, f"{host}'s clock differs by {skew:.0f} s", "let NTP set this machine's clock")
    return ok(check, f"{host} is reached{' over TLS' if url.startswith('https:') else ''}")


def _skew(date: str, now: datetime) -> float | None:
    try:
        return (parsedate_to_datetime(date) - now).total_seconds()
    except (ValueError, TypeError):
        return None


def _why(failed: BaseException) -> str:
    if isinstance(failed.__cause__ or failed.__context__, PrivateAddressError):
        return "its address is not public"
    return str(failed).splitlines()[0] if str(failed) else type(failed).__name__


def _remedy(failed: BaseException) -> str:
    said = f"{failed} {failed.__cause__!r}".lower()
    if "certificate" in said:
        return "see whose certificate that is; SSL_CERT_FILE names a private authority"
    if "not public" in said:
        return "say `allow_private_addresses = true` in the provider's table if it is meant to be"
    return "check the endpoint, DNS, and what a firewall lets out"
