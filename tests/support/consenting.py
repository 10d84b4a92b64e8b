"""An owner's browser, from /connect over the sandbox's page back to the callback."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import httpx

from tests.support.running_web import RunningWeb
from tests.support.sandbox_clients import SandboxClient
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import until
from worker.sandbox import owner
from worker.sandbox.server import RunningSandbox

#: Seconds for a step that takes a fraction of one.
PATIENCE: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Browser:
    """One browser with its own cookies, that follows no redirect by itself."""

    http: httpx.Client

    def connect(self, client: str, subject: str, **more: str) -> str:
        """Open /connect and return the authorization URL that it leads to."""
        answer = self.http.get(f"/connect/{client}", params={"subject": subject, **more})
        assert answer.status_code == 302, answer.text
        return answer.headers["location"]

    def allow(self, authorization_url: str, *, account: str = "ada@example.com") -> dict[str, str]:
        """Log in and allow at the provider's page, and return the parameters that it sends to the callback."""
        return _parameters(owner.allow(authorization_url, account=account))

    def deny(self, authorization_url: str) -> dict[str, str]:
        """Deny at the provider's page, and return the parameters that it sends to the callback."""
        return _parameters(owner.deny(authorization_url))

    def call_back(self, parameters: dict[str, str] | list[tuple[str, str]]) -> httpx.Response:
        """Bring parameters to the callback, as the provider's redirect makes a browser do."""
        return self.http.get(f"/oauth/callback?{urlencode(parameters)}")

    def consent(self, client: str, subject: str) -> httpx.Response:
        """Go the whole way and return the page at its end."""
        return self.call_back(self.allow(self.connect(client, subject)))


@contextmanager
def browser(web: RunningWeb) -> Iterator[Browser]:
    """Open a browser without any cookie."""
    with httpx.Client(base_url=web.url, trust_env=False, timeout=30) as http:
        yield Browser(http=http)


def expect_callback(sandbox: RunningSandbox, client: SandboxClient, public_url: str) -> None:
    """Register the callback under a public URL as the client's redirect URI."""
    sandbox.control.change_redirect_uris(client.name, (f"{public_url}/oauth/callback",))


def query_of(url: str) -> dict[str, str]:
    """Return the parameters of a URL, each of which must stand there once."""
    found = parse_qs(urlsplit(url).query, strict_parsing=True)
    assert all(len(values) == 1 for values in found.values())
    return {name: values[0] for name, values in found.items()}


def _parameters(redirect: str) -> dict[str, str]:
    assert urlsplit(redirect).path == "/oauth/callback"
    return dict(parse_qsl(urlsplit(redirect).query, strict_parsing=True))


async def exchange_held_back(owner: Browser, client: SandboxClient, provider: TcpProxy) -> asyncio.Task[httpx.Response]:
    """Consent up to where the provider has exchanged the code and its answer is on the way through a proxy."""
    returned = owner.allow(owner.connect(client.name, "customer-42"))
    provider.hold()
    answered = asyncio.create_task(asyncio.to_thread(owner.call_back, returned))
    await until(lambda: provider.held, PATIENCE, "the code is exchanged")
    return answered
