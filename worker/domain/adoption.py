"""Whether an offered grant is taken: decided purely by what is there. No live grant's token is ever replaced.

An export holds the refresh tokens of the day it was made. Once a grant is kept alive here, its token is replaced again
and again, and the one in the export is spent: presented once more, it may end the whole grant. So what is there stays,
and a token that was adopted once is not adopted again, under whatever name.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from uuid import UUID

from worker.domain.facts import OldToken, Rotation, TokenFacts
from worker.domain.grant import GrantState


class Verdict(Enum):
    """What becomes of an offered grant."""

    CREATE = auto()  #: there is none yet
    REPLACE = auto()  #: the one that is there is dead, and these tokens are from a later consent
    SAME = auto()  #: it was adopted before, with this very token
    OTHER_TOKEN = auto()  #: there is one, and its token stays
    TAKEN = auto()  #: another grant was adopted with this refresh token
    NOT_NEWER = auto()  #: a dead one was to be replaced, and nothing says that these tokens are from a later consent
    OTHER_ACCOUNT = auto()  #: a dead one was to be replaced, and nothing says that these tokens are for its account


@dataclass(frozen=True, slots=True, kw_only=True)
class ThereAlready:
    """The grant that a client and subject have."""

    grant_id: UUID
    state: GrantState
    state_since: datetime
    account: str | None


def judge(
    *,
    there: ThereAlready | None,
    adopted_as: frozenset[UUID],
    is_shareable: bool,
    consented_at: datetime | None,
    account: str | None,
    replace: bool,
) -> Verdict:
    """Decide what becomes of an offered grant.

    Args:
        there: what its client and subject have already.
        adopted_as: the grants that were adopted with the same refresh token.
        is_shareable: whether several grants may hold the same refresh token (see `is_shareable`).
        consented_at: when its owner consented, as far as that is known.
        account: its owner's id at the provider, as far as that is known.
        replace: whether a dead grant may be replaced.

    """
    if there is not None and there.grant_id in adopted_as:
        return Verdict.SAME
    if adopted_as and not is_shareable:
        return Verdict.TAKEN
    if there is None:
        return Verdict.CREATE
    if not replace or there.state is not GrantState.RECONSENT_REQUIRED:
        return Verdict.OTHER_TOKEN
    if consented_at is None or consented_at <= there.state_since:
        return Verdict.NOT_NEWER
    return Verdict.REPLACE if there.account in {None, account} else Verdict.OTHER_ACCOUNT


def is_shareable(facts: TokenFacts) -> bool:
    """Tell whether grants may share a refresh token: only where using it for one takes nothing from the others."""
    return not facts.is_refreshed or facts.rotation is Rotation.NEVER or facts.old_token is OldToken.STAYS_VALID
