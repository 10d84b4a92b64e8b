"""Runs oidc-provider, a certified authorization server from npm, on a loopback port.

It rotates each refresh token, and a used one that is presented again revokes the whole grant (RFC 9700 section 4.14.2).
Its facts in Evergrant's words: `rotation = "always"`, `old_token = "invalidated"`, no reuse grace.
"""

from __future__ import annotations

import hashlib
import os
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import httpx

from tests.authorization_servers.child_server import ChildServer, ChildServerError
from tests.authorization_servers.consent_forms import ConsentWalkError, walk_consent
from tests.authorization_servers.npm_package import InstallError, NodeMissingError, install_package, require_node
from tests.authorization_servers.registration import ClientRegistration
from tests.authorization_servers.setting import Setting
from worker.domain.secret import Secret

__all__ = [
    "TRUST_NOBODY",
    "ChildServerError",
    "ClientRegistration",
    "ConsentWalkError",
    "InstallError",
    "NodeMissingError",
    "OidcProvider",
    "Seen",
    "install",
    "walk_consent",
]

_FOLDER: Final = Path(__file__).parent
#: Seconds for `seen()`: the answer is a sum over a table in memory.
_SEEN_TIMEOUT_S: Final = 30.0
#: The server speaks http, and reading a machine's certificate authorities takes longer than a whole request to it.
TRUST_NOBODY: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the authorization server saw at its token endpoint, and what is left of the grants."""

    presented: int  #: presentations of refresh tokens, whatever the answer was
    presented_more_than_once: int  #: different refresh tokens that were presented twice or more
    tokens: Mapping[str, int]  #: SHA-256 of the token, in hex, to how often it was presented
    grants_alive: int  #: grants with a refresh token that would still be accepted

    def times(self, refresh_token: Secret) -> int:
        """Say how often this refresh token was presented."""
        return self.tokens.get(hashlib.sha256(refresh_token.reveal().encode()).hexdigest(), 0)


def install() -> Path:
    """Install oidc-provider at the pinned version, unless it is installed; return its `node_modules` folder.

    Raises:
        NodeMissingError: Node.js or npm is missing or too old.
        InstallError: npm could not install it.
    """
    require_node()
    return install_package(_FOLDER, environ=os.environ)


class OidcProvider:
    """One oidc-provider; a context manager, whose end is the server's end, as is the end of this process.

    What the server prints for people is kept: `read_log` gives it, and an exception that leaves the `with` block has it
    as a note.
    """

    def __init__(
        self,
        *,
        clients: Sequence[ClientRegistration],
        access_token_lifetime: timedelta = timedelta(hours=1),
        refresh_token_lifetime: timedelta = timedelta(days=14),
        grant_lifetime: timedelta = timedelta(days=365),
        groups: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Take the options; nothing starts yet.

        Args:
            clients: who may ask for tokens.
            access_token_lifetime: in whole seconds, at least 1.
            refresh_token_lifetime: in whole seconds, at least 1; each rotated refresh token starts it anew.
            grant_lifetime: in whole seconds, at least 1; counted from consent, and no refresh moves it.
            groups: what accounts have in their claim `groups`, by their names.

        Raises:
            ValueError: a lifetime is not a positive number of whole seconds.
        """
        self._configuration = {
            "clients": [client.to_metadata() for client in clients],
            "access_token_lifetime": _whole_seconds("access_token_lifetime", access_token_lifetime),
            "refresh_token_lifetime": _whole_seconds("refresh_token_lifetime", refresh_token_lifetime),
            "grant_lifetime": _whole_seconds("grant_lifetime", grant_lifetime),
            "groups": {name: list(found) for name, found in (groups or {}).items()},
        }
        self._server: ChildServer | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is not None and (log := self.read_log()):
            error.add_note(f"oidc-provider's log:\n{log}")
        self.stop()

    @property
    def issuer(self) -> str:
        """The issuer identifier (RFC 9207), without a slash at its end; discovery is served below it.

        Raises:
            RuntimeError: the server is not running; so do the properties and functions below.
        """
        return str(self._running().introduction["issuer"])

    @property
    def authorization_endpoint(self) -> str:
        """Where an owner is sent to consent (RFC 6749 section 3.1)."""
        return f"{self.issuer}/auth"

    @property
    def token_endpoint(self) -> str:
        """Where codes and refresh tokens are presented (RFC 6749 section 3.2)."""
        return f"{self.issuer}/token"

    @property
    def revocation_endpoint(self) -> str:
        """Where tokens are given back (RFC 7009 section 2)."""
        return f"{self.issuer}/token/revocation"

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._running().pid

    def start(self) -> None:
        """Install what is missing, start the server and wait until it listens.

        Raises:
            NodeMissingError: Node.js or npm is missing or too old.
            InstallError: npm could not install oidc-provider.
            ChildServerError: the server ended, refused its configuration, or did not listen in time.
            RuntimeError: the server is running already.
        """
        if self._server is not None:
            message = "oidc-provider is running already; make another OidcProvider for a second one"
            raise RuntimeError(message)
        install()
        self._server = ChildServer(
            runtime=require_node(), script=_FOLDER / "server.mjs", configuration=self._configuration
        )

    def stop(self) -> None:
        """End the server, with all its grants, and wait until it is gone; one that is not running is no error."""
        server, self._server = self._server, None
        if server is not None:
            server.stop()

    def seen(self) -> Seen:
        """Ask the server what it saw so far; whatever was answered before this call is counted in it.

        Raises:
            httpx.HTTPError: the server is gone or did not answer.
        """
        # No proxy from the environment stands between this machine and itself.
        answer = httpx.get(f"{self.issuer}/__seen", timeout=_SEEN_TIMEOUT_S, trust_env=False, verify=TRUST_NOBODY)
        return Seen(**answer.raise_for_status().json())

    def read_log(self) -> str:
        """Give what the server wrote for people since its start; of much, the end. Empty where it is not running."""
        return self._server.read_log() if self._server is not None else ""

    def _running(self) -> ChildServer:
        if self._server is None:
            message = "oidc-provider is not running; use it as a context manager"
            raise RuntimeError(message)
        return self._server


def _whole_seconds(name: str, lifetime: timedelta) -> int:
    seconds, rest = divmod(lifetime, timedelta(seconds=1))
    if seconds < 1 or rest:
        message = f"{name} is {lifetime}; oidc-provider counts in whole seconds, from 1"
        raise ValueError(message)
    return seconds


def _launch(registration: ClientRegistration) -> OidcProvider:
    return OidcProvider(clients=[registration])


SETTINGS: Final = (
    Setting(
        name="oidc-provider",
        toml=_FOLDER / "evergrant.toml",
        launch=_launch,
        secret=Secret("not url-safe: 100 % + more"),
        withdrawal_path="/token/revocation",
        reuse_ends_grant=True,
        needs_node=True,
    ),
)
