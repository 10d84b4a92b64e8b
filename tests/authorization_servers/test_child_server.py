"""A server's life: it ends with the process that started it, whatever that one dies of."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import psutil
import pytest

from tests.authorization_servers import authlib_server
from tests.authorization_servers.child_server import ChildServer
from tests.authorization_servers.fixtures import OIDC_PROVIDER_CLIENT
from tests.authorization_servers.npm_package import require_node
from tests.authorization_servers.oidc_provider import OidcProvider

pytestmark = [pytest.mark.node, pytest.mark.usefixtures("oidc_provider_installed")]

#: Seconds until a process that should be gone is called a survivor: its own check of its parent runs each second.
_GONE_TIMEOUT_S: Final = 15.0
_REPOSITORY: Final = Path(__file__).resolve().parents[2]

#: A process that starts a server, says its pid, and waits to be killed.
_STARTER: Final = """
import sys
from tests.authorization_servers import authlib_server, oidc_provider
from tests.authorization_servers.fixtures import OIDC_PROVIDER_CLIENT

with SERVER.SETTINGS[0].launch(OIDC_PROVIDER_CLIENT) as server:
    print(server.pid, flush=True)
    sys.stdin.read()
"""

#: The same, with a forked copy of itself that keeps the server's stdin open.
_FORKING_STARTER: Final = _STARTER.replace(
    "    print(", "    import os, time\n    if os.fork() == 0:\n        time.sleep(60)\n        os._exit(0)\n    print("
)


@pytest.mark.parametrize("server_module", ["oidc_provider", "authlib_server"])
@pytest.mark.parametrize("starter", [_STARTER, _FORKING_STARTER], ids=["alone", "with a forked copy"])
def test_a_server_ends_with_a_killed_starter(starter: str, server_module: str) -> None:
    """SIGKILL leaves the starter no time to stop anything, and no server behind."""
    with subprocess.Popen(
        [sys.executable, "-c", starter.replace("SERVER", server_module)],
        cwd=_REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        server = psutil.Process(int(process.stdout.readline()))
        forked = [child for child in psutil.Process(process.pid).children() if child.pid != server.pid]
        process.kill()
        gone, alive = psutil.wait_procs([server], timeout=_GONE_TIMEOUT_S)
        for copy in forked:
            copy.kill()
    assert (gone, alive) == ([server], [])


def test_stopping_is_closing_a_pipe(oidc_provider_installed: Path) -> None:
    """A server that is stopped ends by itself, with exit code 0, for its stdin has ended; nobody has to kill it."""
    script = oidc_provider_installed.parent / "server.mjs"
    lifetimes = {f"{name}_lifetime": 60 for name in ("access_token", "refresh_token", "grant")}
    for server in (
        ChildServer(runtime=require_node(), script=script, configuration={"clients": [], **lifetimes}),
        authlib_server.SETTINGS[0].launch(OIDC_PROVIDER_CLIENT),
    ):
        assert isinstance(server, ChildServer)
        server.stop()
        assert server._process.returncode == 0


def test_a_server_ends_on_sigterm() -> None:
    """SIGTERM ends the server, and stopping what is gone already is no error."""
    with OidcProvider(clients=[OIDC_PROVIDER_CLIENT]) as server:
        process = psutil.Process(server.pid)
        os.kill(server.pid, signal.SIGTERM)
        process.wait(_GONE_TIMEOUT_S)


def test_no_secret_is_an_argument_or_in_the_environment() -> None:
    """The configuration with its client secrets goes through stdin: neither ps nor /proc shows it."""
    with OidcProvider(clients=[OIDC_PROVIDER_CLIENT]) as server:
        process = psutil.Process(server.pid)
        shown = [*process.cmdline(), *process.environ().values()]
    assert shown
    assert not [text for text in shown if OIDC_PROVIDER_CLIENT.client_secret.reveal() in text]
