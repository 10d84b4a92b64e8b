"""A running authorization server, as the conformance tests meet it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.authorization_servers.plain_client import open_http, post_as
from tests.authorization_servers.registration import ClientRegistration
from tests.authorization_servers.setting import RunningServer, Setting
from worker.domain.secret import Secret

#: Where the configurations have their server; a running one has a port of its own.
_WRITTEN_ADDRESS: Final = "http://localhost:8000"
#: The client's table in each configuration.
CLIENT: Final = "conformance"


class ServerUnderTest:
    """A running authorization server with one client, and what is looked up there past Evergrant.

    Args:
        setting: what was started.
        running: the server.
        registration: the client as it is registered.

    """

    def __init__(self, setting: Setting, running: RunningServer, registration: ClientRegistration) -> None:
        self.setting = setting
        self._running = running
        self._registration = registration

    @property
    def toml(self) -> str:
        """The configuration, with the address where this server listens."""
        return self.setting.toml.read_text(encoding="utf-8").replace(_WRITTEN_ADDRESS, self._running.issuer)

    def owner_of(self, access_token: Secret) -> str | None:
        """Use an access token at the server's own resource: whose it is, or None where it is not accepted."""
        headers = {"authorization": f"Bearer {access_token.reveal()}"}
        with open_http() as http:
            answer = http.get(f"{self._running.issuer}/me", headers=headers)
        return str(answer.json()["sub"]) if answer.is_success else None

    def withdraw(self, refresh_token: Secret) -> None:
        """End a grant at the server, without Evergrant being told."""
        url = f"{self._running.issuer}{self.setting.withdrawal_path}"
        post_as(self._registration, url, token=refresh_token.reveal()).raise_for_status()

    def read_log(self) -> str:
        """Give what the server wrote for people so far."""
        return self._running.read_log()


@contextmanager
def started(setting: Setting) -> Iterator[ServerUnderTest]:
    """Run a server for as long as a `with` block, with the client registered that its configuration speaks of."""
    registration = _registration(setting)
    with setting.launch(registration) as running:
        yield ServerUnderTest(setting, running, registration)


def _registration(setting: Setting) -> ClientRegistration:
    tables = tomllib.loads(setting.toml.read_text(encoding="utf-8"))
    client = tables["clients"][CLIENT]
    return ClientRegistration(
        client_id=client["client_id"],
        client_secret=setting.secret,
        redirect_uris=(client["redirect_uri"],),
        token_endpoint_auth_method=tables["providers"][client["provider"]]["client_auth"],
        scope=" ".join(client["scopes"]),
    )
