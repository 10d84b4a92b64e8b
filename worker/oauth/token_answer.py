"""Reading a token endpoint's answer: tolerant in what it accepts, so that no token that arrived is lost.

Only a missing access token makes an answer unusable. Every other oddity costs that one field and nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

from worker.domain.outcome import Tokens
from worker.domain.secret import Secret

#: What of an error code is kept: enough for `invalid_grant` and a number, too little to smuggle a token through.
_CODE_FORM: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
#: A lifetime past this is a mistake in the answer, such as milliseconds or an epoch where seconds belong.
_LONGEST_SECONDS: Final = 10 * 365 * 86400
#: An integer with more digits is no number of seconds and no error code; reading one of thousands would raise.
_MOST_DIGITS: Final = 20
#: A code shorter than this tells nothing of a secret that contains it; a number such as 190 stands in many tokens.
_TELLING_PART: Final = 6
#: The members of an answer that hold secrets; their values may not come back under another name.
_TOKEN_NAMES: Final = ("access_token", "refresh_token", "id_token")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """An answer that was read to its end, or to the cap."""

    status: int
    headers: Mapping[str, str]  #: lower-case names
    body: bytes
    cut: bool = False  #: the body was longer than the cap

    def __repr__(self) -> str:
        return f"HttpAnswer(status={self.status}, ***)"


def read_object(answer: HttpAnswer) -> dict[str, Any] | None:
    """Return the answer's JSON object whatever its content type says, or None where there is none.

    A byte that is not UTF-8, a raw control character or a number beyond all bounds costs the member it stands in.
    """
    if answer.cut:
        return None
    text = answer.body.decode("utf-8-sig", "surrogateescape")
    try:
        parsed = json.loads(text, strict=False, parse_constant=lambda _name: None, parse_int=_integer)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def read_tokens(fields: Mapping[str, Any], secrets: tuple[Secret, ...]) -> Tokens | None:
    """Return the tokens in a successful answer (RFC 6749 section 5.1), or None where it has no access token.

    Args:
        fields: the answer's JSON object.
        secrets: what the request held; a scope that repeats one is left out.

    """
    access_token = _token(fields.get("access_token"))
    if access_token is None:
        return None
    return Tokens(
        access_token=access_token,
        refresh_token=_token(fields.get("refresh_token")),
        access_lifetime=_lifetime(fields.get("expires_in")),
        refresh_lifetime=_lifetime(fields.get("refresh_token_expires_in", fields.get("refresh_expires_in"))),
        scopes=_scopes(fields.get("scope"), _values(fields, secrets)),
    )


def read_error_code(fields: Mapping[str, Any]) -> str | None:
    """Return the `error` code (RFC 6749 section 5.2), or None where there is none of the form of a code.

    Decide by it, but keep or show it only as `without_secrets` returns it.
    """
    found = fields.get("error")
    if isinstance(found, dict):
        found = found.get("code", found.get("type"))
    if isinstance(found, int) and not isinstance(found, bool):
        found = str(found)
    return found if isinstance(found, str) and _CODE_FORM.fullmatch(found) else None


def without_secrets(code: str | None, fields: Mapping[str, Any], secrets: tuple[Secret, ...]) -> str | None:
    """Return the error code, or None where it repeats a secret or is a telling part of one.

    A server that echoes what it was sent, or what it sends, must not bring a secret into a column or a log.

    Args:
        code: as it was read.
        fields: the answer it was read from, which may hold tokens.
        secrets: what the request held.

    """
    if code is None:
        return None
    telling = len(code) >= _TELLING_PART
    repeats = any(value in code or (telling and code in value) for value in _values(fields, secrets))
    return None if repeats else code


def read_retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """Return `Retry-After` (RFC 9110 section 10.2.3): seconds, or a date measured against the answer's own `Date`."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return timedelta(seconds=min(int(text[:12]), _LONGEST_SECONDS))
    until, sent = _http_date(text), _http_date(headers.get("date", ""))
    if until is None or sent is None:
        return None
    return max(until - sent, timedelta(0))


def read_date(headers: Mapping[str, str]) -> datetime | None:
    """Return the answer's `Date` (RFC 9110 section 6.6.1), for the skew between the provider's clock and ours."""
    return _http_date(headers.get("date", ""))


def _http_date(text: str) -> datetime | None:
    try:
        parsed = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)


def _integer(digits: str) -> int | None:
    return int(digits) if len(digits) <= _MOST_DIGITS else None


def _values(fields: Mapping[str, Any], secrets: tuple[Secret, ...]) -> tuple[str, ...]:
    """Return the values of all secrets that the request held or the answer brought."""
    received = (fields.get(name) for name in _TOKEN_NAMES)
    values = (*(secret.reveal() for secret in secrets), *received)
    return tuple(value for value in values if isinstance(value, str) and value)


def _token(value: object) -> Secret | None:
    # Of any length: the cap on the body bounds it, and a token that is refused here is lost.
    return Secret(value) if isinstance(value, str) and value else None


def _lifetime(value: object) -> timedelta | None:
    if isinstance(value, str):
        try:
            value = float(value.strip()[:32])
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Compared before anything is computed with it: this lets neither NaN nor an infinity through.
    return timedelta(seconds=float(value)) if 0 < value <= _LONGEST_SECONDS else None


def _scopes(value: object, secrets: Collection[str]) -> tuple[str, ...] | None:
    if isinstance(value, str):
        found = re.split(r"[ ,]+", value.strip())
    elif isinstance(value, list):
        found = [scope for scope in value if isinstance(scope, str)]
    else:
        return None
    kept = tuple(scope for scope in found if _is_scope(scope) and not any(secret in scope for secret in secrets))
    return kept[:200] or None


def _is_scope(text: str) -> bool:
    # A scope that long is not one, and neither a NUL nor half of a surrogate pair can be stored as text (RFC 6749
    # section 3.3 allows none of them).
    return 0 < len(text) <= 512 and not any(char == "\x00" or "\ud800" <= char <= "\udfff" for char in text)  # noqa: PLR2004 -- said above
