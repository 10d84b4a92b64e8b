"""How long a token lives, in whatever form an answer says it. What cannot be believed is unknown."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

from worker.oauth.answer_path import at

#: A lifetime past this is a mistake in the answer, such as milliseconds or an epoch where seconds belong.
LONGEST_SECONDS: Final = 10 * 365 * 86400
#: Seconds since 1970 stay below this for three thousand years; what is above counts milliseconds.
_FIRST_MILLISECONDS: Final = 100_000_000_000
#: A number written with more characters is none.
_LONGEST_NUMBER: Final = 32
#: What of a JWT is decoded to find its `exp`: claims are a few kilobytes.
_LONGEST_CLAIMS: Final = 64 * 1024
#: What `expires_in_unit` may say.
_UNITS: Final = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
}


def lifetime_in(fields: object, paths: Iterable[str], unit: str = "s") -> timedelta | None:
    """Return the first believable lifetime at any of some paths."""
    for path in paths:
        value = at(fields, path)
        if value is not None and (found := lifetime(value, _UNITS[unit])) is not None:
            return found
    return None


def lifetime(value: object, unit: timedelta) -> timedelta | None:
    """Read a number of such units of time."""
    number = _number(value)
    # Compared before anything is computed with it: this lets neither NaN nor an infinity through.
    if number is None or not 0 < number <= LONGEST_SECONDS / unit.total_seconds():
        return None
    return number * unit


def lifetime_until(fields: object, paths: Iterable[str], now: datetime | None) -> timedelta | None:
    """Return the lifetime that the first readable instant at any of some paths leaves, from `now` on."""
    for path in paths:
        value = at(fields, path)
        if value is not None and (left := until(instant(value), now)) is not None:
            return left
    return None


def until(end: datetime | None, now: datetime | None) -> timedelta | None:
    """Return what is left until an end, where it is in the future and can be believed."""
    if end is None or now is None:
        return None
    left = end - now
    return left if timedelta(0) < left <= timedelta(seconds=LONGEST_SECONDS) else None


def instant(value: object) -> datetime | None:
    """Read an instant: ISO 8601, seconds or milliseconds since 1970, or the form of an HTTP date."""
    number = _number(value)
    if number is not None:
        return _since_1970(number)
    if not isinstance(value, str):
        return None
    text = value.strip()[:64]
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            parsed = read(text)
            return parsed.astimezone(UTC) if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)
        except (ValueError, TypeError, OverflowError, IndexError):
            continue
    return None


def jwt_lifetime(token: str, now: datetime | None) -> timedelta | None:
    """Return what a JWT's `exp` leaves of it (RFC 7519 section 4.1.4), from `now` or else from its own `iat`.

    Its signature is not checked: nothing but the time of the next refresh depends on it.
    """
    parts = token.split(".")
    if len(parts) != 3 or len(parts[1]) > _LONGEST_CLAIMS:  # noqa: PLR2004 -- RFC 7515 section 3.1
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return None
    start = now or instant(_numeric(claims, "iat"))
    return until(instant(_numeric(claims, "exp")), start)


def _numeric(claims: object, name: str) -> Any:  # noqa: ANN401 -- a claim is anything
    found = at(claims, name)
    return found if isinstance(found, int | float) else None


def _number(value: object) -> float | None:
    if isinstance(value, str):
        try:
            return float(value.strip()[:_LONGEST_NUMBER])
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value


def _since_1970(number: float) -> datetime | None:
    # As above: NaN is on neither side of a comparison.
    if not 0 < number < _FIRST_MILLISECONDS * 1000:
        return None
    seconds = number if number < _FIRST_MILLISECONDS else number / 1000
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None
