"""A grant that is offered for adoption: its fields and what may stand in them, alike for API, command line and imports.

Nothing here repeats what was given: a field may hold a token that belongs in another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import ErrorDetails

from worker.domain.account import LONGEST_ACCOUNT
from worker.oauth.captured import LONGEST_VALUE
from worker.usecases.consent import LONGEST_SUBJECT

#: Bytes are up to four to a character, and rows hold 64 KiB without complaint.
LONGEST_TOKEN: Final = 64 * 1024
LONGEST_EMAIL: Final = 254  # RFC 5321 section 4.5.3.1.3, less the angle brackets
#: Seconds; a longer life is a mistake, such as milliseconds or an instant where seconds belong.
LONGEST_LIFE: Final = 10 * 365 * 24 * 3600
#: Nobody asks an owner for more.
_MOST_SCOPES: Final = 500
_LONGEST_SCOPE: Final = 1000
#: Providers that tell something about an account tell one or two things.
_MOST_CAPTURED: Final = 50
#: Tokens of another age than this are a mistake in what was offered.
_FIRST: Final = datetime(2000, 1, 1, tzinfo=UTC)
_END: Final = datetime(2200, 1, 1, tzinfo=UTC)


_SUCH_AS: Final = "such as 2026-01-31T12:00:00Z"


def printable(text: str) -> str:
    """Return a text without characters that could hide something.

    Raises:
        ValueError: when one is in it.

    """
    if not text.isprintable():
        message = "must hold printable characters only"
        raise ValueError(message)
    return text


def _address(text: str) -> str:
    name, _, host = text.rpartition("@")
    if not (name and host and text.isprintable()) or " " in text:
        message = "is not an e-mail address"
        raise ValueError(message)
    return text


def _written(value: object) -> object:
    # A number would be taken for seconds since 1970, or for milliseconds where it is large.
    if isinstance(value, datetime) or (isinstance(value, str) and not value.lstrip("+-").replace(".", "").isdigit()):
        return value
    message = f"must be an instant with its time zone, {_SUCH_AS}"
    raise ValueError(message)


def _of_our_age(value: datetime) -> datetime:
    if not _FIRST <= value < _END:
        message = "must be an instant from 2000 to 2199"
        raise ValueError(message)
    return value


_PRINTABLE: Final = "Printable characters: no control, format or private ones, and no spaces but U+0020."
_NAME_SCHEMA: Final = {
    "type": "string",
    "format": "printable",
    "minLength": 1,
    "maxLength": LONGEST_SUBJECT,
    "description": _PRINTABLE,
}

#: A client's or a subject's name.
Name = Annotated[
    str,
    Field(min_length=1, max_length=LONGEST_SUBJECT),
    AfterValidator(printable),
    WithJsonSchema(_NAME_SCHEMA),
]
#: An owner's id at a provider.
Account = Annotated[
    str,
    Field(min_length=1, max_length=LONGEST_ACCOUNT),
    AfterValidator(printable),
    WithJsonSchema({"type": "string", "format": "printable", "minLength": 1, "maxLength": LONGEST_ACCOUNT}),
]
Email = Annotated[
    str,
    Field(max_length=LONGEST_EMAIL),
    AfterValidator(_address),
    WithJsonSchema({"type": "string", "format": "email", "maxLength": LONGEST_EMAIL}),
]
Token = Annotated[SecretStr, Field(min_length=1, max_length=LONGEST_TOKEN)]
Life = Annotated[int, Field(ge=1, le=LONGEST_LIFE)]
Instant = Annotated[
    AwareDatetime,
    BeforeValidator(_written),
    AfterValidator(_of_our_age),
    WithJsonSchema({"type": "string", "format": "date-time", "description": "RFC 3339, from 2000 to 2199."}),
]
#: RFC 6749 section 3.3.
Scope = Annotated[str, Field(min_length=1, max_length=_LONGEST_SCOPE, pattern=r"^[!#-\[\]-~]+$")]
CapturedValue = Annotated[
    str,
    Field(min_length=1, max_length=LONGEST_VALUE),
    AfterValidator(printable),
    WithJsonSchema({"type": "string", "format": "printable", "minLength": 1, "maxLength": LONGEST_VALUE}),
]


class Offer(BaseModel):
    """A grant whose tokens come from elsewhere. From now on nobody else may refresh it."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    client: Name
    subject: Name
    refresh_token: Token
    access_token: Token | None = None
    expires_in: Annotated[Life | None, Field(description="Seconds that the access token still lives.")] = None
    access_expires_at: Annotated[Instant | None, Field(description="Or when it ends, which may be past.")] = None
    refresh_expires_at: Instant | None = None
    scopes: Annotated[list[Scope], Field(max_length=_MOST_SCOPES)] | None = None
    email: Annotated[Email | None, Field(description="Where the owner can be reached.")] = None
    account: Annotated[Account | None, Field(description="Who the owner is in the provider's words.")] = None
    consented_at: Annotated[Instant | None, Field(description="When the owner authorized.")] = None
    captured: Annotated[
        dict[str, CapturedValue],
        Field(
            max_length=_MOST_CAPTURED,
            description="What the provider's facts say to keep of its redirects and answers, by name.",
        ),
    ] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """What is wrong with an offered grant, without what was given."""

    field: str
    text: str

    def __str__(self) -> str:
        return f"{self.field} {self.text}"


def complaints_in(error: ValidationError) -> tuple[Complaint, ...]:
    """Return what validation found wrong."""
    return tuple(dict.fromkeys(_complaint(fault) for fault in error.errors(include_input=False)))


def _complaint(fault: ErrorDetails) -> Complaint:
    # What is below the field itself is a name or a number of whoever offers it.
    field = str(fault["loc"][0])
    match fault["type"], fault.get("ctx", {}):
        case "missing", _:
            text = "is missing"
        case "too_short" | "string_too_short", _:  # nothing has a least length but one
            text = "is empty"
        case "too_long" | "string_too_long", {"max_length": longest}:
            text = f"is longer than {longest}"
        case "timezone_aware", _:
            text = f"lacks its time zone, {_SUCH_AS}"
        case "string_pattern_mismatch", _:
            text = "has a character that no scope has (RFC 6749 section 3.3)"
        case _:
            said = fault["msg"].removeprefix("Value error, ").removeprefix("Input ").removeprefix("String ")
            text = said[:1].lower() + said[1:]
    return Complaint(field=field, text=text)
