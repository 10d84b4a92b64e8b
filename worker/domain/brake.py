"""The brake: when abnormally many grants of one client die at once, the fault is hardly theirs.

A provider's outage, a wrong deploy or a lost database of theirs answers `invalid_grant` to everybody. Deaths beyond the
brake's room become suspicions: the grants stay, are tried again, and nobody is mailed.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

#: Deaths are counted over this long.
WINDOW: Final = timedelta(minutes=10)
#: So many deaths in a window are ordinary whatever the size of the client: owners do revoke.
FEWEST: Final = 5
#: Beyond those, this share of the client's grants may die in a window.
SHARE: Final = 0.02
#: A suspect grant is tried again after this long, spread by chance: a mended provider is noticed soon and not stormed.
SUSPECT_WAIT: Final = timedelta(seconds=60)
#: After so many refusals the waits grow: what lasts longer than ten minutes is noticed soon enough a little later.
_PATIENT_FOR: Final = 10
#: Longest wait, but for chance: a hundred thousand grants that have ended make about a hundred requests a second.
_LONGEST_WAIT: Final = timedelta(minutes=15)
#: An operator's word that the deaths are real holds for so long: as grants come due, theirs are found out.
OVERRULED_FOR: Final = timedelta(hours=6)
#: So many suspects refreshed while it is on release the brake: one may be luck.
RELEASED_BY: Final = 3
#: A grant that was refused for as long as this, while others of its client are refreshed, has ended whatever the brake
#: says: longer than a provider's incident, short enough for an owner who waits.
JUDGED_AFTER: Final = timedelta(hours=6)


def room_for_deaths(*, grants: int, died_in_window: int) -> int:
    """Return how many more of a client's grants may be marked dead before its brake goes on.

    Args:
        grants: how many the client has.
        died_in_window: how many were marked dead within the last `WINDOW`.

    """
    return max(0, max(FEWEST, int(grants * SHARE)) - died_in_window)


def suspect_wait(strikes: int, draw: float) -> timedelta:
    """Return how long a suspect grant waits for its next try.

    Args:
        strikes: how often it was refused before.
        draw: chance in [0, 1).

    """
    return SUSPECT_WAIT * min(max(1.0, strikes / _PATIENT_FOR), _LONGEST_WAIT / SUSPECT_WAIT) * (0.5 + draw)


def looked_back(refused_for: timedelta) -> timedelta:
    """Return over how long a client's refreshes speak against a grant that was refused for so long.

    Half of it: were an incident what began with the refusal, or came after it, others would not be refreshed so late.
    """
    return refused_for / 2
