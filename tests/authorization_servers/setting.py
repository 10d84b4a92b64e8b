"""What the conformance tests know of each authorization server: how it starts, and the TOML that a user would write."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.authorization_servers.registration import ClientRegistration
from worker.domain.secret import Secret


class RunningServer(Protocol):
    """A server that listens."""

    @property
    def issuer(self) -> str:
        """Where it listens, without a slash at its end."""

    def read_log(self) -> str:
        """Give what it wrote for people so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One authorization server in one of its settings.

    Attributes:
        name: of the server and its setting.
        toml: the provider's and the client's tables: all that Evergrant is told.
        launch: starts the server with a client registered.
        secret: the client's. Characters that have to be encoded, where the server decodes them.
        withdrawal_path: where the server takes a refresh token back, as a form with `token`, and ends it.
        reuse_ends_grant: whether an old refresh token that is presented again takes the newest one with it.
        needs_node: whether it runs on Node.js.

    """

    name: str
    toml: Path
    launch: Callable[[ClientRegistration], AbstractContextManager[RunningServer]]
    secret: Secret
    withdrawal_path: str
    reuse_ends_grant: bool = False
    needs_node: bool = False
