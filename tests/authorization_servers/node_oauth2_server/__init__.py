"""Runs @node-oauth/oauth2-server, a library from npm, in a small application on a loopback port.

It issues a new refresh token with each refresh, and does not know the old one any more; whoever presents that is
refused, and the newest stays good. It has no revocation endpoint.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from tests.authorization_servers.child_server import ChildServer
from tests.authorization_servers.npm_package import install_package, require_node
from tests.authorization_servers.registration import ClientRegistration
from tests.authorization_servers.setting import Setting
from worker.domain.secret import Secret

_FOLDER: Final = Path(__file__).parent


def _launch(registration: ClientRegistration) -> ChildServer:
    node = require_node()
    install_package(_FOLDER, environ=os.environ)
    configuration = {"clients": [registration.to_metadata()]}
    return ChildServer(runtime=node, script=_FOLDER / "server.mjs", configuration=configuration)


SETTINGS: Final = (
    Setting(
        name="node-oauth2-server",
        toml=_FOLDER / "evergrant.toml",
        launch=_launch,
        secret=Secret("not url-safe: 100 % + more"),
        withdrawal_path="/withdraw",
        needs_node=True,
    ),
)
