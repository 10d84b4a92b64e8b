"""What must not stand in a log line, found by name, by type, and in the text of what others wrote.

Our own lines hold identifiers in fields. Libraries write sentences and tracebacks, and those may repeat an address with
a token in it, a header, or a body.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Final

import structlog

from worker.domain.secret import Secret

STARS: Final = "***"
#: Field names under which nothing is ever shown, whatever its type.
FORBIDDEN: Final = frozenset(
    {"access_token", "refresh_token", "client_secret", "code", "state_parameter", "authorization", "password"}
)
#: What most fields hold, and what cannot hold a secret of its own: looking further would cost as much as the line.
_PLAIN: Final = frozenset({str, int, float, bool, type(None)})
#: Names whose values are secret wherever they stand: in a form, a query, JSON, a Python repr.
_NAMED: Final = re.compile(
    r"""(?ix) \b (access_token | refresh_token | id_token | client_secret | client_assertion | assertion
                  | code_verifier | password | passwd | secret | api_key | private_key | evergrant_keys)
        (["']? \s* [=:] \s* ["']?) [^\s&"',;)}\]]+"""
)
#: Names that are secret in a query only: elsewhere they are words.
_QUERIED: Final = re.compile(r"([?&](?:code|state|token|key|link)=)[^\s&\"'<>]+", re.IGNORECASE)
#: What follows one of the two as a word of a sentence has letters only.
_HEADER: Final = re.compile(r"\b(bearer|basic)\s+(?=\S*[0-9=._~+/-])[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)
#: User and password of an address (RFC 3986 section 3.2.1).
_USERINFO: Final = re.compile(r"(://)[^\s/@:]*:[^\s/@]*@")
#: A JSON Web Token (RFC 7519): three parts in base64url, the first of which begins a JSON object.
_JWT: Final = re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]*")
#: Links that are secrets themselves.
_LINK: Final = re.compile(r"(/(?:reconsent|sign-in)/)[^\s\"'?]+")


def without_secrets(text: str) -> str:
    """Return text of others with stars in place of what looks like a secret."""
    text = _NAMED.sub(rf"\1\2{STARS}", text)
    text = _QUERIED.sub(rf"\1{STARS}", text)
    text = _HEADER.sub(rf"\1 {STARS}", text)
    text = _USERINFO.sub(rf"\1{STARS}@", text)
    text = _JWT.sub(STARS, text)
    return _LINK.sub(rf"\1{STARS}", text)


def redact(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Replace what must not be shown; a `Secret` shows itself as stars anyway."""
    for key, value in event.items():
        if key in FORBIDDEN:
            event[key] = STARS
        elif type(value) in _PLAIN:
            continue
        elif isinstance(value, Secret):
            event[key] = STARS
        elif isinstance(value, Mapping):
            event[key] = {name: STARS if name in FORBIDDEN else item for name, item in value.items()}
    return event


def redact_traceback(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Replace what looks like a secret in a formatted traceback: its last line is a message that somebody wrote."""
    found = event.get("exception")
    if isinstance(found, str):
        event["exception"] = without_secrets(found)
    return event


def redact_foreign(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Replace what looks like a secret in everything that a library has written."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = without_secrets(value)
    return event


class ShortAddresses(logging.Filter):
    """Takes the query, and of pages all but the first part of the path, out of uvicorn's access lines.

    A query of `/oauth/callback` is a code and a state, that of `/connect` names a person, and the rest of a link in a
    mail is a secret.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Shorten a record's address; it is always shown."""
        if isinstance(record.args, tuple) and len(record.args) == 5:  # noqa: PLR2004 -- uvicorn's: who, how, where, which HTTP, status
            who, method, address, version, status = record.args
            record.args = (who, method, short_address(str(address)), version, status)
        return True


def short_address(address: str) -> str:
    """Return a request's target without what may be secret or personal: no query, of a page the first part alone."""
    path = address.partition("?")[0]
    if path.startswith("/v1/"):
        return path
    first, rest = path[1:].partition("/")[::2]
    return f"/{first}/..." if rest else f"/{first}"
