"""Runs Authlib's authorization server in a small Flask application on a loopback port, without and with rotation.

As it comes, a refresh answer names no refresh token, and the one there is stays good. With INCLUDE_NEW_REFRESH_TOKEN a
replaced one is refused, and the newest stays good.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Final

from tests.authorization_servers.child_server import ChildServer
from tests.authorization_servers.registration import ClientRegistration
from tests.authorization_servers.setting import Setting
from worker.domain.secret import Secret

_FOLDER: Final = Path(__file__).parent


def _launch(registration: ClientRegistration, *, include_new_refresh_token: bool) -> ChildServer:
    configuration = {
        "clients": [registration.to_metadata()],
        "include_new_refresh_token": include_new_refresh_token,
    }
    return ChildServer(runtime=Path(sys.executable), script=_FOLDER / "server.py", configuration=configuration)


def _setting(name: str, toml: str, *, include_new_refresh_token: bool) -> Setting:
    return Setting(
        name=f"Authlib, {name}",
        toml=_FOLDER / toml,
        launch=partial(_launch, include_new_refresh_token=include_new_refresh_token),
        # Without a space: Authlib decodes %20, and takes the + that RFC 6749 section 2.3.1 makes of a space as it is.
        secret=Secret("not-url-safe:100%+more"),
        withdrawal_path="/revoke",
    )


SETTINGS: Final = (
    _setting("rotation off", "rotation_off.toml", include_new_refresh_token=False),
    _setting("rotation on", "rotation_on.toml", include_new_refresh_token=True),
)
