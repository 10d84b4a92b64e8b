"""The words of re-consent mails: what each is for, and where it stands.

waiting ──► sending ──► sent ──► bounced
   │  ▲        ├──────► refused      (the server will never take it)
   │  └────────┤                     (not now: tried again, later and later)
   │           └──────► given_up     (not now, for days)
   └──► cancelled                    (the grant needs no mail any more)
"""

from __future__ import annotations

from enum import StrEnum


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
