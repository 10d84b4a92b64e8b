"""The words of re-consent mails, and the decisions about them: who gets one, when, and how often.

waiting ──► sending ──► sent ──► bounced
   │  ▲        ├──────► refused      (the server will never take it)
   │  └────────┤                     (not now: tried again, later and later)
   │           └──────► given_up     (not now, for days)
   └──► cancelled                    (the grant needs no mail any more)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from typing import Final

from worker.domain.grant import GrantState


class MailMode(StrEnum):
    """Whether a client's owners are mailed without being told to."""

    AUTO = "auto"  #: soon after a grant has died, and again later
    DIGEST = "digest"  #: the same, gathered and sent once a day
    MANUAL = "manual"  #: when an operator says so


class MailKind(StrEnum):
    """Why a mail goes out."""

    DEATH = "death"  #: the grant has come to need its owner
    REMINDER = "reminder"  #: and still needs it, days later
    EXPIRING = "expiring"  #: the consent will end at an instant that no refresh moves
    OPERATOR = "operator"  #: an operator wants it
    OWNER = "owner"  #: the owner came with a link that was used or had run out


class MailState(StrEnum):
    """Where a mail stands."""

    WAITING = "waiting"
    SENDING = "sending"  #: recorded before the server is spoken to
    SENT = "sent"  #: the server has taken it
    REFUSED = "refused"  #: the server has said that it will never take it
    BOUNCED = "bounced"  #: taken, and reported as not delivered later
    GIVEN_UP = "given_up"  #: tried for days
    CANCELLED = "cancelled"  #: the grant is active again, revoked or gone
    NOTED = "noted"  #: nobody asked for a mail; the event has gone out


#: What goes out of itself: such mails keep the cool-down. The others were asked for.
AUTOMATIC: Final = (MailKind.DEATH, MailKind.REMINDER, MailKind.EXPIRING)
#: Switching mails on must not write to everybody who ever left: deaths older than this are left to the operator.
LOOKS_BACK: Final = timedelta(days=7)
#: Even a mail that was asked for is not repeated sooner: it may still be on its way.
ASKED_AGAIN_AFTER: Final = timedelta(minutes=5)
#: Of a consent that lives for a week, its owner is not told on the first day: only in this last share of its life.
AHEAD_SHARE: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class MailPolicy:
    """When and how often owners are mailed: `[mails]` of the configuration."""

    delay: timedelta = timedelta(minutes=1)  #: after a death: the brake may go on, and an owner's grants die together
    cool_down: timedelta = timedelta(hours=1)  #: between two mails to one address that nobody asked for
    reminders: tuple[timedelta, ...] = (timedelta(days=3), timedelta(days=7))  #: after the first mail of a death
    cap: int = 5  #: mails about one death, whatever their kind
    digest_at: time = time(8)  #: UTC
    ahead: timedelta = timedelta(days=7)  #: before a consent ends that no refresh prolongs
    link_lifetime: timedelta = timedelta(days=14)


def next_digest(now: datetime, at: time) -> datetime:
    """Return the next time of day after now at which digests go out; `now` and the answer are UTC."""
    today = datetime.combine(now.astimezone(UTC).date(), at, tzinfo=UTC)
    return today if today > now else today + timedelta(days=1)


class WhyNot(StrEnum):
    """Why a grant's owner gets no mail."""

    NOT_NEEDED = "not_needed"  #: the grant does not need its owner
    NO_ADDRESS = "no_address"  #: neither the owner's nor a fallback recipient of the client is known
    UNDER_WAY = "under_way"  #: a mail about this death is on its way
    ASKED_BEFORE = "asked_before"  #: the last one went out minutes ago
    COOLING_DOWN = "cooling_down"  #: the address had one lately
    CAPPED = "capped"  #: there have been as many about this death as there may be
    ADDRESS_REFUSED = "address_refused"  #: the mail server knows no such address
    NOT_CONFIGURED = "not_configured"  #: the client is not in the configuration any more


#: The same in words, with what to do about it.
EXPLAINED: Final[Mapping[WhyNot, str]] = {
    WhyNot.NOT_NEEDED: "the grant does not need its owner",
    WhyNot.NO_ADDRESS: "nobody to write to: set the grant's email in the console, or fallback_recipients of its client",
    WhyNot.UNDER_WAY: "a mail about it is on its way",
    WhyNot.ASKED_BEFORE: "the address had a mail minutes ago",
    WhyNot.COOLING_DOWN: "the address had a mail within the cool-down",
    WhyNot.CAPPED: "there have been as many mails about it as [mails] cap allows",
    WhyNot.ADDRESS_REFUSED: "the address was refused: correct the grant's email in the console",
    WhyNot.NOT_CONFIGURED: "its client is not configured any more",
}


class Asker(StrEnum):
    """Who wants a mail sent: whoever names the grant may overrule what protects owners from a bulk."""

    OPERATOR_BY_NAME = "operator_by_name"
    OPERATOR_IN_BULK = "operator_in_bulk"
    OWNER = "owner"


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressee:
    """A grant whose owner might be mailed, with what decides it. Instants are the database's."""

    state: GrantState
    ends_soon: bool  #: it is alive and its consent is about to end
    configured: bool
    recipient: str | None
    under_way: bool
    last_sent_at: datetime | None  #: to this recipient, about whichever grant
    has_fresh_link: bool  #: one that came minutes ago, about this death, and was not used
    sent: int  #: about this death
    address_refused: bool


def why_not(addressee: Addressee, asker: Asker, policy: MailPolicy, now: datetime) -> WhyNot | None:
    """Return why no mail is sent, or None where one is."""
    found = addressee
    since = now - found.last_sent_at if found.last_sent_at is not None else None
    sent_lately = since is not None and since < ASKED_AGAIN_AFTER
    by_name = asker is Asker.OPERATOR_BY_NAME
    reasons = (
        (WhyNot.NOT_NEEDED, found.state is not GrantState.RECONSENT_REQUIRED and not found.ends_soon),
        (WhyNot.NOT_CONFIGURED, not found.configured),
        (WhyNot.NO_ADDRESS, found.recipient is None),
        (WhyNot.UNDER_WAY, found.under_way),
        # An owner whose link is used up has nothing to wait for.
        (WhyNot.ASKED_BEFORE, found.has_fresh_link if asker is Asker.OWNER else sent_lately),
        (WhyNot.ADDRESS_REFUSED, found.address_refused and not by_name),
        (WhyNot.CAPPED, found.sent >= policy.cap and not by_name),
        (
            WhyNot.COOLING_DOWN,
            since is not None and since < policy.cool_down and asker is Asker.OPERATOR_IN_BULK,
        ),
    )
    return next((reason for reason, applies in reasons if applies), None)
