"""The search at the end of a run: everything that was told and written, for every secret that was used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.secrecy.ledger import read_ledger
from tests.secrecy.places import allowed, written
from tests.secrecy.told import tellings
from worker.drill.secrecy import KnownSecrets


def leaks(kept: Path, temporary: Path | None) -> list[str]:
    """Return where a secret stands that may not stand there: file or test, line, and kind; never the secret.

    Args:
        kept: the run's folder, with its ledger and what was told.
        temporary: the folder under which the tests have written; None: they have not.

    """
    known = read_ledger(kept)
    return sorted({*_in_tellings(kept, known), *(_in_files(temporary, known) if temporary is not None else ())})


def _in_tellings(kept: Path, known: KnownSecrets) -> Iterator[str]:
    for place, told in tellings(kept).items():
        for test, text in told:
            for leak in known.leaks(text):
                if not allowed(place, leak.kinds):
                    yield f"{place} of {test}: {_named(leak.kinds)}"


def _in_files(temporary: Path, known: KnownSecrets) -> Iterator[str]:
    for path in written(temporary):
        for leak in known.leaks(path.read_bytes().decode("latin-1")):
            if not allowed(path.name, leak.kinds):
                yield f"{path}, line {leak.line}: {_named(leak.kinds)}"


def _named(kinds: frozenset[str]) -> str:
    return f"a secret made by {' and '.join(sorted(kinds))}"
