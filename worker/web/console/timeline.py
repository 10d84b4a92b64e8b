"""A grant's life as one list, newest first: its consents, generations, failures, mails, and operators' acts. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from worker.domain.audit import Act, ActOutcome
from worker.domain.events import EventType
from worker.domain.reconsent import MailState
from worker.domain.roles import CallerKind
from worker.storage.audit_log import AuditLine
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


#: Hexadecimal digits of a fingerprint that are shown: no two of a grant's begin alike.
_DIGITS: Final = 12
#: An act and its event are written one after the other; a revocation waits for the provider in between.
_AT_ONCE: Final = timedelta(minutes=1)
#: Between two instants of the database.
_LEAST: Final = timedelta(microseconds=1)
_ACTS_OF_EVENTS: Final[Mapping[str, Act]] = {
    EventType.GRANT_PAUSED: Act.GRANT_PAUSED,
    EventType.GRANT_RESUMED: Act.GRANT_RESUMED,
    EventType.GRANT_REVOKED: Act.GRANT_REVOKED,
}
_ACTS: Final[Mapping[str, str]] = {
    Act.GRANT_ADOPTED: "adopted it",
    Act.GRANT_CHANGED: "changed its address or account",
    Act.GRANT_REFRESHED: "had it refreshed",
    Act.GRANT_PAUSED: "paused it",
    Act.GRANT_RESUMED: "resumed it",
    Act.GRANT_REVOKED: "revoked it",
    Act.ACCOUNT_FORGOTTEN: "let its next consent be for any account",
    Act.RECONSENT_SENT: "had its owner mailed",
    Act.MAIL_RESENT: "had its owner mailed again",
    Act.MAIL_BOUNCED: "noted a bounce",
}


class _Dated(Protocol):
    @property
    def at(self) -> datetime: ...


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


def timeline(
    grant: GrantView, history: History, audited: Sequence[AuditLine], *, before: datetime | None, limit: int
) -> Timeline:
    """Return the newest of what happened to a grant.

    Args:
        grant: as it stands now.
        history: of each kind the newest before an instant, up to the limit.
        audited: what people and programs did to it before that instant, newest first, up to the limit.
        before: that instant.
        limit: entries at most, but for those of one instant, which stay together.

    """
    found = [
        *(_event(event) for event in history.events if event.type not in _OF_MAILS and not _is_told(event, audited)),
        *(_act(line) for line in audited),
        *(_generation(generation) for generation in history.generations),
        *(entry for mail in history.mails for entry in _mail(mail)),
    ]
    begin = _known_since((history.events, history.generations, history.mails, audited), before, limit)
    if begin is None:
        found += _before_the_events(grant, history)
    known = [entry for entry in found if (before is None or entry.at < before) and (begin is None or entry.at >= begin)]
    known.sort(key=lambda entry: entry.at, reverse=True)
    if len(known) <= limit:
        return Timeline(entries=known, older=begin)
    last = known[limit - 1].at
    shown = [entry for entry in known if entry.at >= last]
    return Timeline(entries=shown, older=last if begin is not None or len(shown) < len(known) else None)


def _known_since(parts: Sequence[Sequence[_Dated]], before: datetime | None, limit: int) -> datetime | None:
    """Return since when everything is known; None: since ever. What is cut may lack some of its last one's instant."""
    cut_at = max((part[-1].at for part in parts if len(part) >= limit), default=None)
    if cut_at is None:
        return None
    since = cut_at + _LEAST
    return since if before is None or since < before else cut_at  # more than a page of one instant must not hold it up


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


def _is_told(event: LoggedEvent, acts: Sequence[AuditLine]) -> bool:
    """Tell whether an event is what the audit log tells better: with who did it."""
    act = _ACTS_OF_EVENTS.get(event.type)
    return any(line.act == act and abs(line.at - event.at) < _AT_ONCE for line in acts)


def _act(line: AuditLine) -> Entry:
    who = line.actor or ("Somebody at the command line" if line.kind is CallerKind.COMMAND_LINE else "Somebody")
    times = f" {number(line.count)} times" if line.count > 1 else ""
    done = _ACTS.get(line.act, line.act.replace("_", " ").replace(".", ": "))
    reason = line.details.get("reason")
    if line.outcome is ActOutcome.DONE:
        return Entry(at=line.at, kind="operator", tone=Tone.QUIET, what=f"{who} {done}{times}")
    told = plain_reason(reason) if isinstance(reason, str) else ""
    why = "They may not do that." if line.outcome is ActOutcome.REFUSED else f"It could not be done. {told}".strip()
    return Entry(at=line.at, kind="operator", tone=Tone.WATCH, what=f"Tried: {who} {done}{times}", why=why)


def _shortened(fingerprint: str | None) -> str | None:
    """Return as much of a fingerprint, behind its key's id, as tells it from others."""
    if fingerprint is None:
        return None
    key, _, digest = fingerprint.rpartition(":")
    return f"{key}:{digest[:_DIGITS]}" if key else digest[:_DIGITS]


def _generation(generation: Generation) -> Entry:
    return Entry(
        at=generation.at,
        kind="generation",
        tone=Tone.QUIET,
        what=f"Refreshed: generation {number(generation.generation)}",
        code=_shortened(generation.spent_fingerprint),
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


def _before_the_events(grant: GrantView, history: History) -> Iterator[Entry]:
    """Yield what the row itself remembers of its beginning, where no event does any more."""
    told = {event.type for event in history.events}
    if EventType.GRANT_CREATED not in told:
        yield Entry(at=grant.created_at, kind="event", tone=Tone.GOOD, what=_first_up(plain_event("grant.created")))
    consented = grant.consented_at
    if consented is not None and consented < grant.created_at:
        yield Entry(at=consented, kind="event", tone=Tone.GOOD, what="Its owner consented")


def _first_up(text: str) -> str:
    return text[:1].upper() + text[1:]
