"""How a grant stands, in plain words: the cause, and what to do next. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from worker.domain.grant import GrantState
from worker.domain.outcome import Reason
from worker.domain.reconsent import EXPLAINED, WhyNot
from worker.storage.client_status import Hold
from worker.storage.grants import GrantView
from worker.web.verdict import Tone
from worker.web.words import ago, day, plain_reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a grant stands."""

    tone: Tone
    headline: str
    cause: str
    todo: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What else decides what to do about a grant."""

    provider: str | None  #: its name for people; None: the client is not configured
    hold: Hold | None  #: what holds its client back
    why_no_mail: WhyNot | None  #: why its owner would not be mailed now
    mailed_at: datetime | None  #: when its owner was last mailed; None: no mail about this death or end went out
    ends_at: datetime | None  #: when its consent ends, where that is soon and no refresh moves it
    strikes: int  #: refusals in a row after which its owner is asked
    sends: bool  #: whether there is a mail server
    now: datetime  #: the database's clock


_Cause = Callable[[str, str], str]
_DEATHS: Final[Mapping[str, _Cause]] = {
    Reason.INVALID_GRANT: lambda at, provider: (
        f"On {at} {provider} said that this consent has ended: its owner withdrew it there, changed the account, or it "
        "ran out."
    ),
    Reason.ROTATION_REPLY_LOST: lambda at, provider: (
        f"{provider} replaced the refresh token, and its answer never arrived. By {at} it was certain that nobody has "
        "the new one."
    ),
    Reason.REFRESH_TOKEN_EXPIRED: lambda at, provider: (
        f"On {at} the consent reached the end that {provider} gives it; no refresh moves it."
    ),
}


def standing(grant: GrantView, around: Surroundings) -> Standing:
    """Return how a grant stands."""
    match grant.state:
        case GrantState.ACTIVE:
            return _active(grant, around)
        case GrantState.IN_DOUBT:
            again = "Nothing to do: a worker presents it again when that harms least, and the answer decides."
            return Standing(
                tone=Tone.WATCH,
                headline="In doubt",
                cause=plain_reason(grant.state_reason),
                todo=f"{_unless_hindered(grant, around, again)} {_meanwhile(grant.access_expires_at, around.now)}",
            )
        case GrantState.SUSPECT:
            return Standing(
                tone=Tone.WATCH,
                headline="Suspect: refused while abnormally many others were",
                cause=f"{around.provider or 'The provider'} refused it when many of its client's grants died at once, "
                "which is more often the provider's error than the owners' will.",
                todo=_unless_hindered(grant, around, "It is tried again, later and later.")
                + " Ask the provider what happened on their side.",
            )
        case GrantState.RECONSENT_REQUIRED:
            return _needs_owner(grant, around)
        case GrantState.PAUSED:
            return Standing(
                tone=Tone.QUIET,
                headline="Paused by an operator",
                cause=f"It has not been refreshed since {day(grant.state_since)}.",
                todo="Resume it before its refresh token runs out from disuse.",
            )
        case GrantState.REVOKED:
            return Standing(
                tone=Tone.QUIET,
                headline="Ended by an operator",
                cause=f"It was ended on purpose on {day(grant.state_since)}.",
                todo="Its owner may authorize again; the same grant then comes back.",
            )


def _hindered(grant: GrantView, around: Surroundings) -> Standing | None:
    """Return how a grant stands that nobody refreshes for now, whatever it is itself; None: it is refreshed."""
    if around.provider is None:
        return Standing(
            tone=Tone.BAD,
            headline="Not refreshed: its client is not configured",
            cause=f"The configuration has no [clients.{grant.client}].",
            todo="Add it, or end the grants of this client.",
        )
    hold = around.hold
    if hold is not None and (hold.paused_by_operator or hold.breaker_opened_at is not None):
        why = "An operator has paused it." if hold.paused_by_operator else plain_reason(hold.breaker_reason)
        headline = f"Not refreshed for now: client {grant.client} is held back"
        return Standing(tone=Tone.BAD, headline=headline, cause=why, todo="See the client.")
    return None


def _unless_hindered(grant: GrantView, around: Surroundings, todo: str) -> str:
    """Return what is to be done about a grant, or why nobody tries it for now."""
    hindered = _hindered(grant, around)
    return todo if hindered is None else f"{hindered.headline}. {hindered.todo}"


def _active(grant: GrantView, around: Surroundings) -> Standing:
    if (hindered := _hindered(grant, around)) is not None:
        return hindered
    if around.ends_at is not None:  # before what else is the matter: coming back mends that too
        return Standing(
            tone=Tone.WATCH,
            headline="Kept alive, but its consent ends soon",
            cause=f"{around.provider} ends it on {day(around.ends_at)}; no refresh moves that.",
            todo=_ask(around),
        )
    if grant.strikes:
        left = max(around.strikes - grant.strikes, 1)
        return Standing(
            tone=Tone.WATCH,
            headline=f"Kept alive, refused {_times(grant.strikes)}",
            cause=f"{around.provider} refused its refresh token on {day(grant.last_error_at)}.",
            todo=f"Nothing to do yet: the provider is asked {_times(left)} more before its owner is troubled.",
        )
    if grant.failures:
        return Standing(
            tone=Tone.WATCH,
            headline="Kept alive, though the last refresh failed",
            cause=plain_reason(grant.last_error),
            todo="It is tried again by itself, later and later.",
        )
    if grant.lost_scopes:
        return Standing(
            tone=Tone.WATCH,
            headline="Kept alive, with fewer scopes than before",
            cause=f"{around.provider} no longer gives {', '.join(grant.lost_scopes)}.",
            todo=f"If they are needed, send its owner to /connect/{grant.client}?subject=… to allow them again.",
        )
    todo = "Nothing to do." if grant.refresh_expires_at is None else ""
    return Standing(tone=Tone.GOOD, headline="Kept alive", cause="", todo=todo)


def _needs_owner(grant: GrantView, around: Surroundings) -> Standing:
    provider, at = around.provider or "The provider", day(grant.state_since)
    death = _DEATHS.get(grant.state_reason or "")
    cause = death(at, provider) if death is not None else plain_reason(grant.state_reason)
    return Standing(tone=Tone.WATCH, headline="Needs its owner", cause=cause, todo=_ask(around))


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _meanwhile(ends_at: datetime | None, now: datetime) -> str:
    """Say whether the stored access token is given out; one whose end is not known never is."""
    if ends_at is None:
        return "No access token is given out meanwhile: when the stored one ends is not known."
    if ends_at <= now:
        return "No access token is given out meanwhile: the stored one has ended."
    return f"The stored access token serves meanwhile; it ends {ago(ends_at, now)}."


def _ask(around: Surroundings) -> str:
    if not around.sends:
        return "No mail can be sent: set EVERGRANT_SMTP_URL and EVERGRANT_MAIL_FROM, or tell its owner another way."
    match around.why_no_mail:
        case None if around.mailed_at is not None:
            return f"Its owner was mailed on {day(around.mailed_at)} and has not come back yet. You can mail again."
        case None:
            return "Send its owner a re-consent mail."
        case WhyNot.UNDER_WAY:
            return "Nothing to do: a mail to its owner is on its way."
        case WhyNot.ASKED_BEFORE:
            return "Its owner was mailed minutes ago. Wait for them."
        case why:
            return f"No mail can be sent: {EXPLAINED[why]}."
