"""Under which keys the files of an escrow's folder are sealed: read from outside, without any key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from worker.domain.ring_holder import UNREADABLE
from worker.storage import consent_escrow, escrow_entry


def keys_of_files(folder: Path) -> dict[str, int]:
    """Return how many files are sealed under each key; one that cannot be read counts under `UNREADABLE`.

    Args:
        folder: below EVERGRANT_HOME_DIR; it need not be there.

    """
    try:
        paths = list(folder.iterdir())
    except FileNotFoundError:
        return {}
    except OSError:  # another user's: what it holds is not known, and that is no reason to say that it is empty
        return {UNREADABLE: 1}
    found: Counter[str] = Counter()
    kinds: list[tuple[str, Callable[[str], Iterable[str]]]] = [
        (escrow_entry.SUFFIX, escrow_entry.key_ids),
        (consent_escrow.SUFFIX, consent_escrow.key_ids),
    ]
    for suffix, key_ids in kinds:
        for path in (path for path in paths if path.name.endswith(suffix)):
            try:
                found.update(set(key_ids(path.read_text(encoding="utf-8"))))
            except FileNotFoundError:
                continue  # stored meanwhile
            except Exception:  # noqa: BLE001 -- damaged, or of another version: whatever it raises, it counts
                found[UNREADABLE] += 1
    return dict(found)
