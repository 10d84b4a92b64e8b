"""`evergrant providers` in a folder of its own, and a provider with quirks for it to show."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from tests.support.command_line import CommandLine, Ended
from tests.support.loaded_command_line import LoadedCommandLine
from worker.packaged import catalogue_path

ACME = """
[providers.acme]
display_name = "Acme Works"
authorization_endpoint = "https://login.acme.example/authorize"
token_endpoint = "https://api.acme.example/oauth2/token"
"""
QUIRKS = """
client_auth = "client_secret_post"
rotation = "always"
old_token = "grace"
reuse_grace = "30s"
inferred = ["client_auth", "refresh.params"]
authorize_params = { prompt = "consent" }
placeholders.tenant = { pattern = "[a-z]+", default = "main" }
sources = ["the guide of Acme Works"]
[providers.acme.refresh]
endpoint = "https://refresh.acme.example/{tenant}/again"
params = { lifetime = 3600, long = true }
[providers.acme.answer]
path = "data"
[[providers.acme.errors]]
status = [400, 403]
field = "meta.code"
value = 17
outcome = "dead"
[[providers.acme.errors]]
description = "(?i)slow down"
outcome = "throttled"
retry_after = "10m"
"""
CLIENT = """
[clients.acme-main]
provider = "acme"
client_id = "abc"
client_secret = "env:ACME_SECRET"
redirect_uri = "https://tokens.example/back"
"""


class Providers:
    """Runs `evergrant providers` in a folder of its own."""

    def __init__(self, loaded: LoadedCommandLine, folder: Path) -> None:
        self._loaded = loaded
        self._folder = folder
        self.configuration = folder / "evergrant.toml"
        self.configuration.write_text("", encoding="utf-8")
        self.secrets = {"ACME_SECRET": "s3cret-of-acme"}

    def write(self, *parts: str) -> None:
        """Write the configuration."""
        self.configuration.write_text("".join(parts), encoding="utf-8")

    def run(self, *arguments: str) -> Ended:
        """Run one command; it never shows a secret."""
        environment = {"EVERGRANT_CONFIG": str(self.configuration), **self.secrets}
        command_line = CommandLine(folder=self._folder, environment=environment)
        ended = self._loaded.run(command_line, "providers", *arguments)
        assert "s3cret-of-acme" not in ended.out + ended.err
        return ended

    def rows(self, *arguments: str) -> list[list[str]]:
        """Run a command that succeeds with a table, and return the cells below its heads."""
        ended = self.run(*arguments)
        assert (ended.code, ended.err) == (0, "")
        return [re.split(r"\s{2,}", line) for line in ended.out.splitlines()[1:]]


def shipped() -> set[str]:
    """Return the names in the catalogue."""
    return set(tomllib.loads(catalogue_path().read_text(encoding="utf-8")))
