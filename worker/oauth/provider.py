"""A provider's facts, as configuration writes them and validation holds them.

A fact that is not set is unknown; nothing here guesses one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Final, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from worker.domain.duration import parse_duration, write_duration
from worker.domain.facts import DEFAULT_STRIKE_INTERVAL, DEFAULT_STRIKES, OldToken, Rotation, TokenFacts

#: Beyond this a duration is a slip of the pen, and added to an instant it may leave the calendar.
LONGEST_DURATION: Final = timedelta(days=3650)
#: Beyond this a token endpoint is not slow but gone, and a lease would have to outlive it.
LONGEST_REQUEST: Final = timedelta(minutes=2)


class ClientAuth(StrEnum):
    """Client authentication at the token endpoint: IANA's values (RFC 6749 section 2.3, RFC 8414 section 2)."""

    CLIENT_SECRET_BASIC = "client_secret_basic"  # noqa: S105 -- the registered name of a method
    CLIENT_SECRET_POST = "client_secret_post"  # noqa: S105 -- the registered name of a method
    NONE = "none"


class RequestEncoding(StrEnum):
    """How the token endpoint wants its parameters."""

    FORM = "form"
    JSON = "json"


class Revocation(StrEnum):
    """What ends when a refresh token is revoked (RFC 7009 section 2.1 leaves it to the server)."""

    TOKEN = "token"  # noqa: S105 -- a word of ours: this token alone
    GRANT = "grant"  #: everything that came of the same consent


class Pkce(StrEnum):
    """Whether the authorization endpoint takes a PKCE challenge (RFC 7636)."""

    REQUIRED = "required"
    SUPPORTED = "supported"
    OFF = "off"


def is_loopback(host: str | None) -> bool:
    """Tell whether a URL's host is this machine: `localhost`, 127.0.0.0/8 or ::1."""
    if host is None:
        return False
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def split_url(url: str) -> SplitResult | None:
    """Split an http(s) URL, or return None where it is not one that a request could be sent to.

    What the standard library would raise is kept back: its messages repeat parts of the URL, passwords included.
    """
    if not url.isprintable() or " " in url:
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port  # is only looked at when it is asked for
    except ValueError:
        return None
    return parts if parts.scheme in {"https", "http"} and parts.hostname else None


def _endpoint(url: str) -> str:
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


def _duration(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


def _at_most(longest: timedelta) -> Callable[[timedelta], timedelta]:
    def check(duration: timedelta) -> timedelta:
        if not timedelta(0) < duration <= longest:
            message = f"must be longer than 0s and at most {write_duration(longest)}"
            raise ValueError(message)
        return duration

    return check


Endpoint = Annotated[str, AfterValidator(_endpoint)]
Duration = Annotated[timedelta, BeforeValidator(_duration), AfterValidator(_at_most(LONGEST_DURATION))]
RequestTime = Annotated[timedelta, BeforeValidator(_duration), AfterValidator(_at_most(LONGEST_REQUEST))]


class Provider(BaseModel):
    """An authorization server and its facts."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, strict=False)

    name: str
    display_name: str | None = None
    authorization_endpoint: Endpoint
    token_endpoint: Endpoint
    revocation_endpoint: Endpoint | None = None
    revocation: Revocation | None = None
    introspection_endpoint: Endpoint | None = None  #: set it only where refresh tokens are introspected (RFC 7662)
    issuer: str | None = None
    token_request_encoding: RequestEncoding = RequestEncoding.FORM
    client_auth: ClientAuth = ClientAuth.CLIENT_SECRET_BASIC
    scope_separator: Literal[" ", ","] = " "
    pkce: Pkce | None = None
    authorize_params: dict[str, str] = {}
    rotation: Rotation | None = None
    old_token: OldToken | None = None
    reuse_grace: Duration | None = None
    access_lifetime: Duration | None = None
    refresh_lifetime: Duration | None = None
    refresh_idle_timeout: Duration | None = None
    strikes: Annotated[int, Field(ge=1, le=10)] = DEFAULT_STRIKES
    strike_interval: Duration = DEFAULT_STRIKE_INTERVAL
    request_timeout: RequestTime = timedelta(seconds=20)
    sources: tuple[str, ...] = ()  #: where the facts come from, and when they were checked

    @model_validator(mode="after")
    def _grace_has_a_length(self) -> Provider:
        if self.old_token is OldToken.GRACE and self.reuse_grace is None:
            message = 'old_token = "grace" needs reuse_grace, such as reuse_grace = "30s"'
            raise ValueError(message)
        if self.reuse_grace is not None and self.old_token is not OldToken.GRACE:
            message = 'reuse_grace only goes with old_token = "grace"'
            raise ValueError(message)
        return self

    @property
    def facts(self) -> TokenFacts:
        """Return what decisions need of these facts."""
        return TokenFacts(
            rotation=self.rotation,
            old_token=self.old_token,
            reuse_grace=self.reuse_grace,
            is_introspected=self.introspection_endpoint is not None,
            access_lifetime=self.access_lifetime,
            refresh_lifetime=self.refresh_lifetime,
            refresh_idle_timeout=self.refresh_idle_timeout,
            strikes=self.strikes,
            strike_interval=self.strike_interval,
        )

    @property
    def sends_pkce(self) -> bool:
        """Whether an authorization request carries a PKCE challenge."""
        return self.pkce in {Pkce.REQUIRED, Pkce.SUPPORTED}
