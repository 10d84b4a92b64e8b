"""`[mails]` of the configuration, as it is written."""

from __future__ import annotations

from datetime import time, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from worker.domain.duration import parse_duration
from worker.domain.reconsent import MailPolicy

_DEFAULTS: Final = MailPolicy()
#: Nobody is reminded after a year, and a link that old is in more hands than its owner's.
_LONGEST: Final = timedelta(days=365)


def _duration(value: object) -> object:
    if isinstance(value, str):
        return parse_duration(value)
    if isinstance(value, timedelta):
        return value
    message = "write a duration such as 30s, 24h or 3d, in quotes"
    raise ValueError(message)


def _no_longer_than_a_year(value: timedelta) -> timedelta:
    if value > _LONGEST:
        message = "is longer than a year"
        raise ValueError(message)
    return value


def _not_at_once(value: timedelta) -> timedelta:
    if value < timedelta(minutes=1):
        message = "is shorter than a minute"
        raise ValueError(message)
    return value


def _rising(values: tuple[timedelta, ...]) -> tuple[timedelta, ...]:
    if any(later <= sooner for sooner, later in pairwise(values)):
        message = "each must be later than the one before: all of them count from the first mail"
        raise ValueError(message)
    return values


def _utc(value: time) -> time:
    if value.tzinfo is not None:
        message = "is a time of day in UTC, such as 08:00, without a zone"
        raise ValueError(message)
    return value


_Wait = Annotated[timedelta, BeforeValidator(_duration), AfterValidator(_no_longer_than_a_year)]
_Long = Annotated[_Wait, AfterValidator(_not_at_once)]


class MailTable(BaseModel):
    """When owners are mailed, how often, and with which templates."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    delay: _Wait = _DEFAULTS.delay
    cool_down: _Wait = _DEFAULTS.cool_down
    reminders: Annotated[tuple[_Long, ...], AfterValidator(_rising)] = _DEFAULTS.reminders
    cap: Annotated[int, Field(ge=1, le=100)] = _DEFAULTS.cap
    digest_at: Annotated[time, AfterValidator(_utc)] = _DEFAULTS.digest_at
    ahead: _Long = _DEFAULTS.ahead
    link_lifetime: _Long = _DEFAULTS.link_lifetime
    templates: Path | None = None  #: a folder whose templates take the place of ours

    @property
    def policy(self) -> MailPolicy:
        """Return what decisions need of it."""
        return MailPolicy(
            delay=self.delay,
            cool_down=self.cool_down,
            reminders=self.reminders,
            cap=self.cap,
            digest_at=self.digest_at,
            ahead=self.ahead,
            link_lifetime=self.link_lifetime,
        )
