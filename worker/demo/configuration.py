"""The demo's configuration file and processes: two clients at the sandbox, one for each of its profiles."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from worker.domain.secret import Secret
from worker.settings import PREFIX

#: Single use, no grace: what Askara's guide describes.
ASKARA_CLIENT: Final = "askara-demo"
#: RFC 6749 with a reuse grace, as Okta, Xero or Linear have it.
GRACE_CLIENT: Final = "acme-demo"
CLIENTS: Final = (ASKARA_CLIENT, GRACE_CLIENT)

_CONFIGURATION: Final = """\
# Written by `evergrant up --demo` at each start.

[providers.askara]
authorization_endpoint = "{sandbox}/askara/authorize"
token_endpoint = "{sandbox}/askara/oauth2/token"
authorize_params = {{ login_hint = "{{subject}}" }}   # the sandbox's page then suggests the account of before
userinfo_endpoint = "{sandbox}/userinfo"
userinfo = {{ account = "account" }}
strike_interval = "5s"
request_timeout = "3s"

[providers.acme]
display_name = "Acme (sandbox, 30 s reuse grace)"
authorization_endpoint = "{sandbox}/rfc6749/authorize"
token_endpoint = "{sandbox}/rfc6749/token"
pkce = "supported"
authorize_params = {{ login_hint = "{{subject}}" }}
issuer = "{sandbox}/rfc6749"
authorization_response_iss_parameter_supported = true
userinfo_endpoint = "{sandbox}/userinfo"
userinfo = {{ account = "account" }}
revocation_endpoint = "{sandbox}/rfc6749/revoke"
revocation = "token"
rotation = "always"
old_token = "grace"
reuse_grace = "30s"
strike_interval = "5s"
request_timeout = "3s"

[clients.askara-demo]
provider = "askara"
client_id = "askara-demo"
client_secret = "file:{secret}"
redirect_uri = "{public_url}/oauth/callback"
scopes = ["profile", "organization"]
display_name = "Askara"
fallback_recipients = ["owners@example.com"]

[clients.acme-demo]
provider = "acme"
client_id = "acme-demo"
client_secret = "file:{secret}"
redirect_uri = "{public_url}/oauth/callback"
scopes = ["profile"]
display_name = "Acme"
fallback_recipients = ["owners@example.com"]

[mails]
delay = "2s"
cool_down = "10s"

[worker]
stop_time = "5s"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoFiles:
    """Where the demo's parts are."""

    configuration: Path
    control_token: Path
    client_secret: Path
    state: Path
    sandbox_log: Path
    mails: Path
    sandbox_port: int
    smtp_port: int
    mails_port: int
    public_url: str

    @property
    def sandbox_url(self) -> str:
        """Return the sandbox's address."""
        return f"http://127.0.0.1:{self.sandbox_port}"

    @property
    def mails_url(self) -> str:
        """Return the address of the page that shows the mails."""
        return f"http://127.0.0.1:{self.mails_port}"

    @property
    def sandbox_argv(self) -> tuple[str, ...]:
        """Return how the sandbox is started."""
        port = ("--port", str(self.sandbox_port), "--state", str(self.state))
        return (sys.executable, "-m", "worker.sandbox", *port, "--control-token-file", str(self.control_token))

    @property
    def demo_argv(self) -> tuple[str, ...]:
        """Return how the demo's owners are started."""
        return (
            sys.executable,
            "-m",
            "worker.demo",
            *("--sandbox", self.sandbox_url, "--control-token-file", str(self.control_token)),
            *("--client-secret-file", str(self.client_secret), "--public-url", self.public_url),
            *("--mails", str(self.mails), "--smtp-port", str(self.smtp_port), "--mails-port", str(self.mails_port)),
        )


def write_demo(home: Path, public_url: str, free_port: Callable[[], int]) -> DemoFiles:
    """Write the demo's configuration and secrets below a home folder, keeping the secrets of an earlier start.

    Args:
        home: EVERGRANT_HOME_DIR.
        public_url: where the pages are.
        free_port: gives a port that nothing listens on.

    """
    folder = home / "demo"
    folder.mkdir(mode=0o700, exist_ok=True)
    files = DemoFiles(
        configuration=folder / "evergrant.toml",
        control_token=folder / "control-token",
        client_secret=folder / "client-secret",
        state=folder / "sandbox.sqlite3",
        sandbox_log=folder / "sandbox.log",
        mails=folder / "mails",
        sandbox_port=free_port(),
        smtp_port=free_port(),
        mails_port=free_port(),
        public_url=public_url.rstrip("/"),
    )
    _write_once(files.client_secret, Secret(secrets.token_urlsafe(32)))
    _write_once(files.control_token, Secret(secrets.token_urlsafe(32)))
    text = _CONFIGURATION.format(sandbox=files.sandbox_url, secret=files.client_secret, public_url=files.public_url)
    files.configuration.write_text(text, encoding="utf-8")
    return files


def demo_environment(files: DemoFiles) -> Mapping[str, str]:
    """Return the settings under which all processes run in the demo. Its mails go to nobody but its own mailbox."""
    return {
        f"{PREFIX}CONFIG": str(files.configuration),
        f"{PREFIX}SMTP_URL": f"smtp://127.0.0.1:{files.smtp_port}",
        f"{PREFIX}MAIL_FROM": "Evergrant's demo <demo@example.com>",
    }


def _write_once(path: Path, value: Secret) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(value.reveal() + "\n")
