"""Runs django-oauth-toolkit in a small Django project on a loopback port, in each of its rotation settings.

Reuse of a replaced refresh token is refused and nothing more, unless REFRESH_TOKEN_REUSE_PROTECTION is on: then it ends
the family. Within REFRESH_TOKEN_GRACE_PERIOD_SECONDS it is answered, with the tokens that replaced it.
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


def _launch(registration: ClientRegistration, *, settings: dict[str, object]) -> ChildServer:
    configuration = {"clients": [registration.to_metadata()], "settings": settings}
    return ChildServer(runtime=Path(sys.executable), script=_FOLDER / "server.py", configuration=configuration)


def _setting(name: str, toml: str, *, reuse_ends_grant: bool = False, **settings: object) -> Setting:
    return Setting(
        name=f"django-oauth-toolkit, {name}",
        toml=_FOLDER / toml,
        launch=partial(_launch, settings=settings),
        secret=Secret("not url-safe: 100 % + more"),
        withdrawal_path="/o/revoke_token/",
        reuse_ends_grant=reuse_ends_grant,
    )


SETTINGS: Final = (
    _setting("rotation off", "rotation_off.toml", ROTATE_REFRESH_TOKEN=False),
    _setting("rotation on", "rotation_on.toml", ROTATE_REFRESH_TOKEN=True),
    _setting("grace", "grace.toml", ROTATE_REFRESH_TOKEN=True, REFRESH_TOKEN_GRACE_PERIOD_SECONDS=120),
    _setting(
        "reuse protection",
        "rotation_on.toml",
        reuse_ends_grant=True,
        ROTATE_REFRESH_TOKEN=True,
        REFRESH_TOKEN_REUSE_PROTECTION=True,
    ),
)
