"""Pytest fixtures around authorization servers that others wrote; `tests/conftest.py` imports them by name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NoReturn

import pytest

from tests.authorization_servers.conformance import ServerUnderTest
from tests.authorization_servers.oidc_provider import ClientRegistration, NodeMissingError, OidcProvider, install
from tests.secrecy.places import OTHERS_LOG
from worker.domain.secret import Secret

__all__ = [
    "OIDC_PROVIDER_CLIENT",
    "authorization_server_log",
    "is_node_required",
    "oidc_provider",
    "oidc_provider_installed",
    "without_node",
]

#: The client that the `oidc_provider` fixture knows. Nothing listens at its redirect_uri: a walk ends before it.
OIDC_PROVIDER_CLIENT: Final = ClientRegistration(
    client_id="evergrant-tests",
    client_secret=Secret("not url-safe: 100 % + more"),  # RFC 6749 section 2.3.1: form-encoded before it is Basic
    redirect_uris=("http://127.0.0.1:9/oauth/callback",),
)


def is_node_required(environ: Mapping[str, str]) -> bool:
    """Say whether a missing Node.js fails the tests that need it (a gate must not pass by skipping) or skips them."""
    return environ.get("CI", "").lower() == "true" or environ.get("EVERGRANT_TEST_REQUIRE_NODE") == "1"


def without_node(missing: NodeMissingError) -> NoReturn:
    """End a test that needs Node.js where there is none: failed where it is required, else skipped, with the advice."""
    if is_node_required(os.environ):
        pytest.fail(str(missing), pytrace=False)
    pytest.skip(str(missing))


@pytest.fixture(scope="session")
def oidc_provider_installed() -> Path:
    """Install oidc-provider; without Node.js skip (fail where it is required), and say what to install."""
    try:
        return install()
    except NodeMissingError as missing:
        without_node(missing)


@pytest.fixture(scope="module")
def oidc_provider(oidc_provider_installed: Path) -> Iterator[OidcProvider]:
    """Run one oidc-provider for a module's tests, with `OIDC_PROVIDER_CLIENT` registered."""
    del oidc_provider_installed
    with OidcProvider(clients=[OIDC_PROVIDER_CLIENT]) as server:
        yield server


@pytest.fixture(autouse=True)
def authorization_server_log(request: pytest.FixtureRequest) -> Iterator[None]:
    """Print the logs of the authorization servers that a test used; pytest shows them where the test failed."""
    yield
    for value in getattr(request.node, "funcargs", {}).values():
        if isinstance(value, OidcProvider | ServerUnderTest) and (log := value.read_log()):
            print(f"{OTHERS_LOG}\n{log}")
