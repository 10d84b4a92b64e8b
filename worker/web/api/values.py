"""What requests bring, checked: lengths of time, and the cursors that we have given out."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import timedelta
from typing import Annotated, Final

from pydantic import AfterValidator, Field, WithJsonSchema

#: A page of a list, at most.
LONGEST_PAGE: Final = 500
DEFAULT_PAGE: Final = 50
#: Nobody asks for a token that lives longer, seconds.
LONGEST_TTL: Final = 365 * 24 * 3600
#: A cursor holds two names, in base64 of JSON.
_LONGEST_CURSOR: Final = 12_000


def write_cursor(client: str, subject: str) -> str:
    """Return the cursor of the page that begins after a client and subject."""
    return base64.urlsafe_b64encode(json.dumps([client, subject]).encode()).rstrip(b"=").decode("ascii")


def read_cursor(cursor: str) -> tuple[str, str]:
    """Return the client and subject after which a page begins.

    Raises:
        ValueError: when the cursor is none of ours.

    """
    message = "is not a cursor that a page has given as `next`"
    try:
        found = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, UnicodeDecodeError, ValueError, RecursionError):
        raise ValueError(message) from None
    match found:
        case [str() as client, str() as subject] if (client + subject).isprintable():
            return client, subject
        case _:
            raise ValueError(message)


def _cursor(cursor: str) -> str:
    read_cursor(cursor)
    return cursor


Cursor = Annotated[
    str,
    Field(max_length=_LONGEST_CURSOR, description="`next` of the page before."),
    AfterValidator(_cursor),
    WithJsonSchema({"type": "string", "format": "cursor", "maxLength": _LONGEST_CURSOR}),
]
EventCursor = Annotated[str, Field(pattern="^[0-9]{1,18}$", description="`next` of the page before.")]
PageLength = Annotated[int, Field(ge=1, le=LONGEST_PAGE, description="At most so many.")]
Seconds = Annotated[int, Field(ge=0, le=LONGEST_TTL)]


def seconds(value: int) -> timedelta:
    """Return a length of time given in seconds."""
    return timedelta(seconds=value)
