"""A grant's life as one list, newest first: its consents, generations, failures, mails, and operators' acts. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from worker.domain.events import EventType
from worker.domain.reconsent import MailState
from worker.storage.event_log import LoggedEvent
from worker.storage.grant_history import Generation, History, MailTold
from worker.storage.grants import GrantView
from worker.storage.mail_list import FAILED
from worker.web.verdict import Tone
from worker.web.words import mail_kind, mail_state, number, plain_event, plain_reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that happened."""

    at: datetime
    kind: str  #: names a class of the style sheet, and the sign beside it
    tone: Tone
    what: str
    why: str = ""
    code: str | None = None  #: a provider's own word, a fingerprint
    code_label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """What is shown, and before when to go on; None: this is all."""

    entries: Sequence[Entry]
    older: datetime | None


_GOOD: Final = frozenset({EventType.GRANT_CREATED, EventType.GRANT_REVIVED, EventType.GRANT_RECONSENTED})
_WATCH: Final = frozenset(
    {
        EventType.GRANT_IN_DOUBT,
        EventType.GRANT_EXPIRING,
        EventType.GRANT_SCOPES_NARROWED,
        EventType.GRANT_REFRESH_TOKEN_MISSING,
        EventType.GRANT_ACCOUNT_REFUSED,
    }
)
_MAIL_TONES: Final[Mapping[str, Tone]] = {MailState.SENT: Tone.GOOD}
#: Told better by the mails themselves.
_OF_MAILS: Final = frozenset({EventType.GRANT_RECONSENT_MAILED, EventType.GRANT_RECONSENT_MAIL_FAILED})


def timeline(grant: GrantView, history: History, *, before: datetime | None, limit: int) -> Timeline:
    """Return the newest of what happened to a grant.

    Args:
        grant: as it stands now.
        history: of each kind the newest before an instant, up to the limit.
        before: that instant.
        limit: entries at most.

    """
    found = [
        *(_event(event) for event in history.events if event.type not in _OF_MAILS),
        *(_generation(generation) for generation in history.generations),
        *(entry for mail in history.mails for entry in _mail(mail)),
    ]
    is_cut = any(len(part) >= limit for part in (history.events, history.generations, history.mails))
    if not is_cut:
        found += _before_the_events(grant, history, before)
    found.sort(key=lambda entry: entry.at, reverse=True)
    shown = found[:limit]
    older = shown[-1].at if shown and (is_cut or len(found) > limit) else None
    return Timeline(entries=shown, older=older)


def _event(event: LoggedEvent) -> Entry:
    data: Mapping[str, Any] = event.data
    reason = data.get("reason")
    by_operator = reason == "operator"
    tone = Tone.GOOD if event.type in _GOOD else Tone.WATCH if event.type in _WATCH else Tone.QUIET
    if event.type == EventType.GRANT_RECONSENT_REQUIRED:
        tone = Tone.BAD
    why = plain_reason(reason) if isinstance(reason, str) and not by_operator else ""
    if (spent := data.get("spent_for_generation")) is not None:
        why = f"{why} The refresh token had been spent before, for generation {spent}."
    if isinstance(lost := data.get("lost"), list):
        why = f"The provider has taken away: {', '.join(map(str, lost))}."
    code = data.get("code")
    return Entry(
        at=event.at,
        kind="operator" if by_operator else "event",
        tone=tone,
        what=_first_up(plain_event(event.type)),
        why=why,
        code=str(code) if code is not None and code != reason else None,
        code_label="The provider says",
    )


def _generation(generation: Generation) -> Entry:
    return Entry(
        at=generation.at,
        kind="generation",
        tone=Tone.QUIET,
        what=f"Refreshed: generation {number(generation.generation)}",
        code=generation.spent_fingerprint,
        code_label="Spent",
    )


def _mail(mail: MailTold) -> Iterator[Entry]:
    tone = _MAIL_TONES.get(mail.state, Tone.BAD if mail.state in FAILED else Tone.QUIET)
    why = _first_up(mail_kind(mail.kind)) + "."
    if mail.last_error and mail.state != MailState.SENT:
        why = f"{why} {_first_up(mail.last_error)}."
    what = f"Mail to {mail.recipient}: {mail_state(mail.state)}"
    yield Entry(at=mail.at, kind="mail", tone=tone, what=what, why=why)
    if mail.link_used_at is not None:
        yield Entry(at=mail.link_used_at, kind="mail", tone=Tone.GOOD, what="Its owner pressed the link of a mail")


def _before_the_events(grant: GrantView, history: History, before: datetime | None) -> Iterator[Entry]:
    """Yield what the row itself remembers of its beginning, where no event does any more."""
    told = {event.type for event in history.events}
    if EventType.GRANT_CREATED not in told and (before is None or grant.created_at < before):
        yield Entry(at=grant.created_at, kind="event", tone=Tone.GOOD, what=_first_up(plain_event("grant.created")))
    consented = grant.consented_at
    if consented is not None and consented < grant.created_at and (before is None or consented < before):
        yield Entry(at=consented, kind="event", tone=Tone.GOOD, what="Its owner consented")


def _first_up(text: str) -> str:
    return text[:1].upper() + text[1:]
