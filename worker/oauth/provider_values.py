"""The kinds of value that configuration writes: addresses, durations, rates, paths into an answer, parameters."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Final
from urllib.parse import SplitResult, urlsplit

import httpx
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, StrictStr

from worker.domain.duration import parse_duration, write_duration
from worker.domain.loopback import is_loopback

#: Every table of the configuration: an unknown key is an error, and no message repeats a value.
STRICT: Final = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
#: Beyond this a duration is a slip of the pen, and added to an instant it may leave the calendar.
LONGEST_DURATION: Final = timedelta(days=3650)
#: Beyond this a token endpoint is not slow but gone, and a lease would have to outlive it.
LONGEST_REQUEST: Final = timedelta(minutes=2)
#: A name in braces, in an address or a parameter.
PLACEHOLDER: Final = re.compile(r"\{([a-z][a-z0-9_]{0,63})\}")

#: RFC 1035 section 2.3.4, without the dot that ends a name.
_LONGEST_NAME: Final = 253
_LONGEST_LABEL: Final = 63

_RATE: Final = re.compile(r"\s*(\d{1,6}(?:\.\d{1,3})?)\s*/\s*(\d{0,6})\s*(s|m|h)\s*")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}
_PATH: Final = re.compile(r"[^.\s]+(?:\.[^.\s]+)*")
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2
#: What the body and the connection decide, or what would name another host.
_OUR_HEADERS: Final = frozenset({"content-length", "content-type", "host", "transfer-encoding", "connection"})


def split_url(url: str) -> SplitResult | None:
    """Split an http(s) URL, or return None where it is not one that a request could be sent to.

    What the standard library would raise is kept back: its messages repeat parts of the URL, passwords included.
    """
    if not url.isprintable() or " " in url:
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port  # is only looked at when it is asked for
        host = httpx.URL(url).raw_host.decode("ascii")  # as the request will have it
    except (ValueError, httpx.InvalidURL):
        return None
    return parts if parts.scheme in {"https", "http"} and _can_be_looked_up(host) else None


def _can_be_looked_up(host: str) -> bool:
    """Tell whether a host is of the form that the DNS knows (RFC 1035 section 2.3.4); an address is too."""
    name = host.removesuffix(".")
    labels = name.split(".")
    return len(name) <= _LONGEST_NAME and all(0 < len(label) <= _LONGEST_LABEL for label in labels)


def check_endpoint(url: str) -> str:
    """Return a URL that requests may be sent to.

    Raises:
        ValueError: when it is none, would send secrets in the clear, or carries some itself.

    """
    parts = split_url(url)
    if parts is None:
        message = "is not an http(s) URL"
        raise ValueError(message)
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        message = "must be https:// (http:// is accepted on loopback only, for it would send secrets in the clear)"
        raise ValueError(message)
    if parts.username or parts.password or parts.fragment:
        message = "must not carry a user name, a password or a fragment"
        raise ValueError(message)
    return url


def _endpoint_template(url: str) -> str:
    sample = PLACEHOLDER.sub("x", url)
    if "{" in sample or "}" in sample:
        message = "has a brace that is no {placeholder}: names are lower-case letters, digits and underscores"
        raise ValueError(message)
    check_endpoint(sample)
    return url


def _duration(value: object) -> object:
    if isinstance(value, bool):  # which would be taken for a second, or for none
        message = "must be a duration such as 30s, 10m or 24h"
        raise ValueError(message)  # noqa: TRY004 -- pydantic hears ValueError
    return parse_duration(value) if isinstance(value, str) else value


def _at_most(longest: timedelta) -> Callable[[timedelta], timedelta]:
    def check(duration: timedelta) -> timedelta:
        if not timedelta(0) < duration <= longest:
            message = f"must be longer than 0s and at most {write_duration(longest)}"
            raise ValueError(message)
        return duration

    return check


def per_second(value: object) -> object:
    """Read a rate such as `10/s`, `600/m` or `10/10m` as a number per second; anything else is left as it is.

    Raises:
        ValueError: when a text is not a rate, or a rate is nothing at all.

    """
    if not isinstance(value, str):
        return value
    match = _RATE.fullmatch(value)
    number, seconds = (float(match[1]), int(match[2] or 1) * _SECONDS[match[3]]) if match else (0.0, 0)
    if not number or not seconds:
        message = f"{value!r} is not a rate; write a number and a unit, such as 10/s or 600/m"
        raise ValueError(message)
    return number / seconds


def one_or_many(value: object) -> object:
    """Let one value stand for a list of one."""
    return value if isinstance(value, list | tuple) else [value]


def _path(text: str) -> str:
    if not _PATH.fullmatch(text):
        message = "is not a path: write member names joined by dots, such as data.access_token or errors.0.code"
        raise ValueError(message)
    return text


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError):
        message = "is not a regular expression"
        raise ValueError(message) from None


def _compiled(value: object) -> object:
    return _pattern(value) if isinstance(value, str) else value


def _headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or name.lower() in _OUR_HEADERS:
            message = f"{name!r} is not a header that can be set here"
            raise ValueError(message)
        if not (value.isascii() and value.isprintable()):
            message = f"the value of {name!r} must be printable ASCII"
            raise ValueError(message)
    return headers


Endpoint = Annotated[str, AfterValidator(check_endpoint)]
EndpointTemplate = Annotated[str, AfterValidator(_endpoint_template)]
Duration = Annotated[timedelta, BeforeValidator(_duration), AfterValidator(_at_most(LONGEST_DURATION))]
RequestTime = Annotated[timedelta, BeforeValidator(_duration), AfterValidator(_at_most(LONGEST_REQUEST))]
FieldPath = Annotated[str, AfterValidator(_path)]
FieldPaths = Annotated[tuple[FieldPath, ...], BeforeValidator(one_or_many)]
Rate = Annotated[float, BeforeValidator(per_second), Field(gt=0, allow_inf_nan=False)]
Pattern = Annotated[re.Pattern[str], BeforeValidator(_compiled)]
Parameter = StrictStr | StrictBool | StrictInt
Parameters = dict[str, Parameter]
Headers = Annotated[dict[str, str], AfterValidator(_headers)]
