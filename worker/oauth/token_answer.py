"""An endpoint's answer as it arrived: its object, its error code, its headers. Tolerant in what is accepted."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qsl

from worker.domain.secret import Secret
from worker.oauth.answer_path import objects_in
from worker.oauth.expiry import LONGEST_SECONDS

#: What of an error code is kept: enough for `invalid_grant` and a number, too little to smuggle a token through.
_CODE_FORM: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
#: An integer with more digits is no number of seconds and no error code; reading one of thousands would raise.
_MOST_DIGITS: Final = 20
#: A code shorter than this tells nothing of a secret that contains it; a number such as 190 stands in many tokens.
_TELLING_PART: Final = 6
#: A form that is worth reading names one of these early; anything else is text or a page.
_FORM_START: Final = re.compile(r"\s*(?:[A-Za-z_]{1,40}=[^&<>\s]*&){0,20}(?:access_token|error)=[^<>\s]+\s*\Z")
_MOST_FORM_FIELDS: Final = 100
#: The members of an answer that hold secrets; their values may not come back under another name.
_TOKEN_NAMES: Final = ("access_token", "refresh_token", "id_token")


_UTF_8: Final = ("utf-8", "utf-8-sig")


def _integer(digits: str) -> int | None:
    return int(digits) if len(digits) <= _MOST_DIGITS else None


_JSON: Final = json.JSONDecoder(strict=False, parse_constant=lambda _name: None, parse_int=_integer)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """An answer that was read to its end, or to the cap, or until its connection broke."""

    status: int
    headers: Mapping[str, str]  #: lower-case names
    body: bytes
    cut: bool = False  #: the body was longer than the cap
    broken: bool = False  #: the connection ended before the body did

    def __repr__(self) -> str:
        return f"HttpAnswer(status={self.status}, ***)"


def read_object(answer: HttpAnswer) -> dict[str, Any] | None:
    """Return the answer's JSON object whatever its content type says, or None where there is none.

    A form in its place is read as well: some servers send one, and a token in it is a token. A byte that is
    not UTF-8, a raw control character or a number beyond all bounds costs the member it stands in.
    """
    if answer.cut or answer.broken:
        return None
    text = _text(answer.body)
    try:
        parsed = _JSON.decode(text)
    except (ValueError, RecursionError):
        return _read_form(text)
    return parsed if isinstance(parsed, dict) else None


def object_within(answer: HttpAnswer) -> dict[str, Any] | None:
    """Return the one JSON object in an answer that is none as a whole, or None: for tokens, and for nothing else.

    It may stand in a list, in a JSON text, between other words, or before the place where the answer was cut or its
    connection broke: an object whose last brace is there is complete. Where there are two, nobody knows which counts.
    """
    text = _text(answer.body)
    try:
        told = _JSON.decode(text)
        text = told if isinstance(told, str) else text
    except (ValueError, RecursionError):
        pass
    begin = text.find("{")
    if begin < 0:
        return None
    try:
        parsed, end = _JSON.raw_decode(text, begin)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) and "{" not in text[end:] else None


def _text(body: bytes) -> str:
    # RFC 8259 section 8.1 knows UTF-8 alone; a body in UTF-16 or UTF-32 shows itself by its zeros.
    encoding = json.detect_encoding(body)
    if encoding in _UTF_8:
        return body.decode("utf-8-sig", "surrogateescape")
    return body.decode(encoding, "replace")  # which no body makes raise; the others do not know every escape


def _read_form(text: str) -> dict[str, Any] | None:
    if not _FORM_START.match(text):
        return None
    try:
        return dict(parse_qsl(text.strip(), errors="replace", max_num_fields=_MOST_FORM_FIELDS))
    except ValueError:
        return None


def read_error_code(fields: Mapping[str, Any]) -> str | None:
    """Return the `error` code (RFC 6749 section 5.2), or None where there is none of the form of a code.

    Decide by it, but keep or show it only as `without_secrets` returns it.
    """
    found = fields.get("error")
    if isinstance(found, dict):
        found = found.get("code", found.get("type"))
    if isinstance(found, int) and not isinstance(found, bool):
        found = str(found)
    return as_code(found)


def as_code(found: object) -> str | None:
    """Return a text that has the form of a code, or None."""
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
    repeats = any(value in code or (telling and code in value) for value in secret_values(fields, secrets))
    return None if repeats else code


def read_retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """Return `Retry-After` (RFC 9110 section 10.2.3): seconds, or a date measured against the answer's own `Date`."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return timedelta(seconds=min(int(text[:12]), LONGEST_SECONDS))
    until, sent = _http_date(text), _http_date(headers.get("date", ""))
    if until is None or sent is None:
        return None
    return max(until - sent, timedelta(0))


def read_date(headers: Mapping[str, str]) -> datetime | None:
    """Return the answer's `Date` (RFC 9110 section 6.6.1), for the skew between the provider's clock and ours."""
    return _http_date(headers.get("date", ""))


@lru_cache(maxsize=64)  # a provider's answers of one second have one date
def _http_date(text: str) -> datetime | None:
    try:
        parsed = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)


def secret_values(
    fields: Mapping[str, Any], secrets: tuple[Secret, ...], received: tuple[Secret | None, ...] = ()
) -> tuple[str, ...]:
    """Return the values of all secrets that the request held or the answer brought, wherever in it they stand."""
    values = {secret.reveal() for secret in (*secrets, *received) if secret is not None}
    for table in objects_in(fields):
        values.update(value for name in _TOKEN_NAMES if isinstance(value := table.get(name), str))
    values.discard("")
    return tuple(values)
