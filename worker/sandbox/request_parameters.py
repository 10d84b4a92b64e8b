"""The parameters of a token request, from a form or a JSON object."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final, assert_never
from urllib.parse import parse_qsl

from worker.sandbox.profiles import BodyEncoding
from worker.sandbox.refusal import Refusal, invalid_request

_FORM_TYPE: Final = "application/x-www-form-urlencoded"
_JSON_TYPE: Final = "application/json"
_MAX_PARAMETERS: Final = 32  # a token request has about eight


def read_parameters(body: bytes, *, content_type: str, encoding: BodyEncoding) -> dict[str, str] | Refusal:
    """Return the parameters of a body, or why they cannot be read.

    Empty values count as left out and a repeated parameter is refused (RFC 6749 section 3.2).
    """
    media_type = content_type.partition(";")[0].strip().lower()
    match encoding:
        case BodyEncoding.FORM:
            return _form(body) if media_type == _FORM_TYPE else _wrong_type(_FORM_TYPE)
        case BodyEncoding.JSON:
            return _json(body) if media_type == _JSON_TYPE else _wrong_type(_JSON_TYPE)
        case _:
            assert_never(encoding)


def single_parameters(pairs: Iterable[tuple[str, str]]) -> dict[str, str] | Refusal:
    """Return name and value pairs as a mapping without the empty ones; refuse a name that comes twice."""
    parameters: dict[str, str] = {}
    for name, value in pairs:
        if name in parameters:
            return invalid_request(f"{name} is given more than once")
        parameters[name] = value
    return {name: value for name, value in parameters.items() if value}


def _form(body: bytes) -> dict[str, str] | Refusal:
    try:
        pairs = parse_qsl(
            body.decode(),
            keep_blank_values=True,
            strict_parsing=bool(body),
            max_num_fields=_MAX_PARAMETERS,
            errors="strict",
        )
    except ValueError:
        return invalid_request("the body is not a form")
    return single_parameters(pairs)


def _json(body: bytes) -> dict[str, str] | Refusal:
    try:
        members = json.loads(body, object_pairs_hook=list)
    except (ValueError, RecursionError):
        return invalid_request("the body is not JSON")
    if not isinstance(members, list) or any(not isinstance(member, tuple) for member in members):
        return invalid_request("the body is not a JSON object")
    if any(not isinstance(value, str) or _has_surrogate(value) for _, value in members):
        return invalid_request("every member of the body must be a string of whole characters")
    return single_parameters(members)


def _has_surrogate(text: str) -> bool:
    # JSON can spell half a character, such as "\ud800", which no encoding can write down.
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def _wrong_type(expected: str) -> Refusal:
    return invalid_request(f"the content type must be {expected}")
