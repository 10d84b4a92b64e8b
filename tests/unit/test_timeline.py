"""A grant's life on pages: nothing of it is lost between two of them, whatever happened at one instant."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from worker.domain.audit import ActOutcome
from worker.domain.grant import GrantState
from worker.domain.roles import CallerKind
from worker.storage.audit_log import AuditLine
from worker.storage.event_log import LoggedEvent
from worker.storage.grant_history import Generation, History
from worker.storage.grants import GrantView
from worker.web.console.timeline import timeline

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
LIMIT = 5
#: So many things of a kind happen at one instant: fewer than a page holds.
TOGETHER = 3
_KNOWN: dict[str, Any] = {
    "id": UUID(int=1),
    "client": "acme",
    "subject": "ada",
    "state": GrantState.ACTIVE,
    "created_at": BEGIN,
}
GRANT = GrantView(**{**dict.fromkeys(GrantView.__slots__), **_KNOWN})
#: Seconds after the beginning at which something happens, the first first.
seconds = st.lists(st.integers(1, 12), max_size=25).map(
    lambda drawn: sorted(second for second in set(drawn) for _ in range(min(drawn.count(second), TOGETHER)))
)


def newest(everything: Sequence[Any], before: datetime | None) -> list[Any]:
    """Return what the database does: the newest before an instant, up to the limit."""
    return [one for one in reversed(everything) if before is None or one.at < before][:LIMIT]


@given(seconds, seconds, seconds)
def test_walking_the_pages_shows_each_thing_once(rotated: list[int], told: list[int], done: list[int]) -> None:
    """Generations, events and acts of people, however many at once and however the pages are cut."""
    generations = [
        Generation(at=BEGIN + timedelta(seconds=second), generation=number, spent_fingerprint=None)
        for number, second in enumerate(rotated)
    ]
    # Those of mails are told by the mails, and so they fill a part without being shown.
    events = [
        LoggedEvent(
            id=number,
            at=BEGIN + timedelta(seconds=second),
            type=f"grant.{number}" if number % 3 else "grant.reconsent_mailed",
            client="acme",
            grant_id=GRANT.id,
            subject="ada",
            data={},
        )
        for number, second in enumerate(told)
    ]
    acts = [
        AuditLine(
            id=number,
            at=BEGIN + timedelta(seconds=second),
            kind=CallerKind.PERSON,
            actor_id=None,
            actor="Ada",
            role=None,
            address=None,
            act=f"act.{number}",
            outcome=ActOutcome.DONE,
            client="acme",
            grant_id=GRANT.id,
            subject="ada",
            count=1,
            details={},
        )
        for number, second in enumerate(done)
    ]
    expected = len(generations) + sum(event.type != "grant.reconsent_mailed" for event in events) + len(acts) + 1

    shown, before = [], None
    for _page in range(100):
        history = History(events=newest(events, before), generations=newest(generations, before), mails=[], now=BEGIN)
        page = timeline(GRANT, history, newest(acts, before), before=before, limit=LIMIT)
        shown += [(entry.at, entry.what) for entry in page.entries]
        before = page.older
        if before is None:
            break

    assert before is None
    assert len(set(shown)) == len(shown) == expected
    assert [at for at, _what in shown] == sorted((at for at, _what in shown), reverse=True)
    assert shown[-1][0] == BEGIN, "and its creation last"
