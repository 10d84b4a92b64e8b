"""The types of events: a closed list, and nothing is written into the log that does not stand in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from worker.domain.events import EventType
from worker.domain.grant import GrantState

ROOT: Final = Path(__file__).parents[2]
_WRITTEN: Final = re.compile(r"""['"]((?:grant|client)\.[a-z_]+)['"]""")
#: What the contract promises to those who follow events.
CONTRACT: Final = {
    *("grant.created", "grant.reconsent_required", "grant.revived", "grant.in_doubt", "grant.expiring"),
    *("grant.revoked", "client.paused", "client.resumed", "client.braked"),
}


def test_every_type_that_is_written_stands_in_the_list() -> None:
    """A type that is missing in `worker/domain/events.py` could not be chosen by an endpoint, not even by `grant.*`."""
    written = {
        found
        for path in (ROOT / "worker" / "storage").glob("*.py")
        for found in _WRITTEN.findall(path.read_text("utf-8"))
    }
    written |= {f"grant.{state}" for state in (GrantState.RECONSENT_REQUIRED, GrantState.IN_DOUBT)}  # built from states

    assert written <= set(EventType)
    assert set(EventType) >= CONTRACT
    assert len(written) > len(CONTRACT) - 1
