"""Whose account a consent is for, held against the account that the grant had before.

An owner who comes back with another account would connect somebody else's data under the same subject, and nobody would
notice. So an account that is known is compared, and another one is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

#: Characters: an id is a name or a number, or an issuer and "sub" together, and not a document.
LONGEST_ACCOUNT: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The account that a grant is known to be for."""

    id: str  #: the owner's id, in the provider's words
    source: str | None  #: where it was read, as `ToldAccount.source`; None: whoever adopted the grant has said it


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldAccount:
    """What one consent tells of its account.

    Attributes:
        source: where the configuration has it read, such as `answer:athlete.id`; None where nothing tells it.
        id: what stood there; None where nothing did.

    """

    source: str | None = None
    id: str | None = None


class AccountCheck(StrEnum):
    """What comes of the comparison."""

    SAME = "same"
    FIRST = "first"  #: none was known before, or it was read elsewhere, so that the two cannot be compared
    UNTOLD = "untold"  #: nothing tells whose account it is, as far as the configuration goes
    ANOTHER = "another_account"  #: refused
    NOT_TOLD = "account_not_told"  #: refused: it should have been told this time, and was not

    @property
    def is_refused(self) -> bool:
        """Whether nothing of the consent may be stored."""
        return self in {AccountCheck.ANOTHER, AccountCheck.NOT_TOLD}


def check_account(former: Account | None, told: ToldAccount) -> AccountCheck:
    """Compare the account of a new consent with the former one.

    Where the operator has changed where accounts are read, what was read before is another kind of id: it is replaced,
    not compared.

    Args:
        former: the account that the grant is known to be for, if it is.
        told: what the new consent tells.

    """
    if told.source is None:
        return AccountCheck.UNTOLD
    if former is None or former.source not in {None, told.source}:
        return AccountCheck.UNTOLD if told.id is None else AccountCheck.FIRST
    if told.id is None:
        return AccountCheck.NOT_TOLD
    return AccountCheck.SAME if former.id == told.id else AccountCheck.ANOTHER
