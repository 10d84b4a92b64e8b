"""Where a secret may stand: what is handed to its owner, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

_MAIL_LINK: Final = "worker.storage.link_signing.write_link"
_FORM: Final = "worker.usecases.sessions.recognize"  # against forged requests; good with the session's cookie alone
_API_TOKEN: Final = "worker.usecases.api_access.create"
_NEW_KEY: Final = "worker.storage.sealing.generate_key"
_WEBHOOK_SECRET: Final = "worker.webhooks.endpoint.generate_secret"
_CONSOLE_LINK: Final = "worker.usecases.sessions.make_link"

#: By place, or name of a file: the kinds that it is there to hand out. Everything else is in no place.
_MAY_HOLD: Final = {
    "mails": frozenset({_MAIL_LINK}),
    # The page that a mail leads to, which has it in its own address; a form's; a token that is shown once.
    "pages": frozenset({_MAIL_LINK, _FORM, _API_TOKEN}),
    # What `api-tokens create`, `keys generate`, `webhooks secret` and `console-link` are there to print.
    "commands": frozenset({_API_TOKEN, _NEW_KEY, _WEBHOOK_SECRET, _CONSOLE_LINK}),
    "up.log": frozenset({_CONSOLE_LINK}),
}
#: After this line a test's output is the log of a server of others, whose addresses hold what a browser brought.
OTHERS_LOG: Final = "the authorization server's log:"
#: What processes write for others to read. Metrics that processes share are files too.
_WRITTEN: Final = ("*.log", "*.log.*", "*.err", "*.out", "*.txt", "counter_*.db", "gauge_*.db", "histogram_*.db")
#: Of these, what holds an owner's secret, for a program to read.
_NOT_TOLD: Final = ("refresh-token.txt",)
#: Folders of others' programs, and what a database keeps.
_OTHERS: Final = frozenset({"site-packages", "node_modules", "share", "data", "lib", "bin"})


def allowed(place: str, kinds: frozenset[str]) -> bool:
    """Tell whether a place may hold a secret that was made by these functions: its maker says what it is for."""
    return not _MAY_HOLD.get(place, frozenset()).isdisjoint(kinds)


def written(folder: Path) -> Iterator[Path]:
    """Give every file below a folder that processes wrote for others to read."""
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _OTHERS and not (Path(where) / name).is_symlink()]
        for name in names:
            # A link leads to a file that is found where it lies, or to nothing.
            is_told = any(fnmatch(name, wanted) for wanted in _WRITTEN) and name not in _NOT_TOLD
            if is_told and not (Path(where) / name).is_symlink():
                yield Path(where) / name
