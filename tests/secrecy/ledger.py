"""The secrets that a run has used, each with the function that made it: which says what kind of secret it is."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Final

from tests.secrecy.folder import folder
from worker.domain.secret import Secret
from worker.drill.secrecy import START, KnownSecrets

_NAME: Final = "ledger"
#: Values that one process remembers, so as not to write them again: a token is opened many times.
_REMEMBERED: Final = 200_000
#: A made-up secret is a few words. It may stand in a test's own words, and is looked for by tests of its own.
_WORDS: Final = frozenset("abcdefghijklmnopqrstuvwxyz-_ .:")


def note_secrets() -> None:
    """Note every `Secret` that this process makes from now on, and those that its forks make."""
    kept = folder()
    if kept is None:
        return
    ledger = os.open(kept / _NAME, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    seen: set[str] = set()
    make = Secret.__init__

    def noting(self: Secret, value: str) -> None:
        make(self, value)
        if len(value) < START or value in seen or _is_drawn():
            return
        if len(seen) >= _REMEMBERED:
            seen.clear()
        seen.add(value)
        if not is_made_up(value):
            maker = sys._getframe(1)
            kind = f"{maker.f_globals.get('__name__', '?')}.{maker.f_code.co_name}"
            os.write(ledger, (json.dumps([kind, value]) + "\n").encode())

    Secret.__init__ = noting  # type: ignore[method-assign]


def _is_drawn() -> bool:
    """Tell whether Hypothesis runs a test now: what it draws may be any word of the code's own, and no secret."""
    hypothesis = sys.modules.get("hypothesis")  # not imported: most processes that note their secrets have none
    return hypothesis is not None and bool(hypothesis.currently_in_test_context())


def is_made_up(value: str) -> bool:
    """Tell whether somebody thought of a value: it has words and no more. A JSON object holds values, not a secret."""
    return value.startswith("{") or _WORDS.issuperset(value) or len(set(value)) < START // 2


def read_ledger(kept: Path) -> KnownSecrets:
    """Return every secret that was noted."""
    known = KnownSecrets()
    path = kept / _NAME
    if path.exists():
        for line in set(path.read_text(encoding="utf-8").splitlines()):
            kind, value = json.loads(line)
            known.add(value, kind)
    return known
