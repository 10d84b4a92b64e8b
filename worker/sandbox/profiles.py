"""The authorization servers that the sandbox imitates, each under a path of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from worker.sandbox.behaviour import Behaviour

_DAY_S: Final = 86_400


class BodyEncoding(StrEnum):
    """How a token request carries its parameters."""

    FORM = "form"
    """application/x-www-form-urlencoded, as RFC 6749 section 4.1.3 says."""

    JSON = "json"
    """A JSON object, as Askara's guide says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What one imitated server accepts and answers.

    - `prefix`: the path that its endpoints share; `token_path` follows it.
    - `basic_auth`: client_secret_basic is accepted beside client_secret_post.
    - `pkce`: the S256 challenge is checked; elsewhere it is ignored like any unknown parameter (RFC 7636).
    - `state_required`: an authorization request without `state` is refused.
    - `answers_scope`: token answers name the scope; `answers_issuer`: redirects carry `iss` (RFC 9207).
    - `token_tools`: revocation (RFC 7009), introspection (RFC 7662) and metadata (RFC 8414) are offered.
    - `scopes`: what may be asked for, each with the words shown to the resource owner.
    """

    name: str
    title: str
    prefix: str
    token_path: str
    body: BodyEncoding
    basic_auth: bool
    pkce: bool
    state_required: bool
    answers_scope: bool
    answers_issuer: bool
    token_tools: bool
    scopes: Mapping[str, str]
    default_behaviour: Behaviour

    def scope_granted(self, requested: str) -> str | None:
        """Return the scope to grant: what was asked for, everything when nothing was, None when a part is unknown."""
        wanted = requested.split()
        if any(part not in self.scopes for part in wanted):
            return None
        return " ".join(wanted or self.scopes)


_SCOPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "profile": "Read your name and e-mail address",
        "organization": "Read the organization you belong to",
    },
)

ASKARA: Final = Profile(
    name="askara",
    title="Askara",
    prefix="/askara",
    token_path="/oauth2/token",
    body=BodyEncoding.JSON,
    basic_auth=False,
    pkce=False,
    state_required=True,
    answers_scope=False,
    answers_issuer=False,
    token_tools=False,
    scopes=_SCOPES,
    default_behaviour=Behaviour(access_lifetime=_DAY_S),
)

RFC6749: Final = Profile(
    name="rfc6749",
    title="RFC 6749 server",
    prefix="/rfc6749",
    token_path="/token",
    body=BodyEncoding.FORM,
    basic_auth=True,
    pkce=True,
    state_required=False,
    answers_scope=True,
    answers_issuer=True,
    token_tools=True,
    scopes=_SCOPES,
    default_behaviour=Behaviour(access_lifetime=3600),
)

PROFILES: Final[Mapping[str, Profile]] = MappingProxyType({profile.name: profile for profile in (ASKARA, RFC6749)})
