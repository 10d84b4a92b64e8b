"""What the control API takes and answers: checked shapes, whose names are the JSON's."""

from __future__ import annotations

from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from worker.sandbox.behaviour import Behaviour, Lifetime
from worker.sandbox.families import Family, TokenRecord
from worker.sandbox.order_book import PlacedOrder

MAX_GRANTS_AT_ONCE: Final = 2000  # seeding as many takes about 0.1 s, for which every other request waits
MAX_FAMILIES_AT_ONCE: Final = 1000
_CHECKED: Final = ConfigDict(extra="forbid")


def _is_redirect_uri(uri: str) -> str:
    parts = urlsplit(uri)
    if not parts.scheme or not parts.netloc or "#" in uri:
        message = "a redirect URI is absolute and has no fragment (RFC 6749 section 3.1.2)"
        raise ValueError(message)
    return uri


ClientId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._~-]{1,100}$")]
NonEmpty = Annotated[str, Field(min_length=1, max_length=200)]
RedirectUri = Annotated[str, AfterValidator(_is_redirect_uri)]


@dataclass(frozen=True, slots=True, kw_only=True, config=_CHECKED)
class RegisterClient:
    """A new client. No secret makes it public; no behaviour gives it the profile's."""

    client_id: ClientId
    client_secret: NonEmpty | None
    redirect_uris: Annotated[tuple[RedirectUri, ...], Field(min_length=1)]
    profile: Literal["askara", "rfc6749"]
    name: NonEmpty | None = None
    behaviour: Behaviour | None = None


@dataclass(frozen=True, slots=True, kw_only=True, config=_CHECKED)
class ChangeSecret:
    """A new secret for a client; the one before it is accepted on when `keep_previous`."""

    client_secret: NonEmpty
    keep_previous: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, config=_CHECKED)
class ChangeRedirectUris:
    """New redirect URIs for a client, in place of the ones it has."""

    redirect_uris: Annotated[tuple[RedirectUri, ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True, kw_only=True, config=_CHECKED)
class SeedGrants:
    """Grants to make as if their owners had allowed the client.

    `access_lifetime`, in seconds, is for these first access tokens only. Accounts are named `account_prefix` and a
    number that goes on from `first_number`.
    """

    count: Annotated[int, Field(ge=1, le=MAX_GRANTS_AT_ONCE)]
    account_prefix: NonEmpty = "account-"
    first_number: Annotated[int, Field(ge=0)] = 1
    access_lifetime: Lifetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True, config=_CHECKED)
class RevokeConsent:
    """All that one account has allowed one client."""

    account: NonEmpty


REGISTER_CLIENT: Final = TypeAdapter(RegisterClient)
CHANGE_SECRET: Final = TypeAdapter(ChangeSecret)
CHANGE_REDIRECT_URIS: Final = TypeAdapter(ChangeRedirectUris)
SEED_GRANTS: Final = TypeAdapter(SeedGrants)
REVOKE_CONSENT: Final = TypeAdapter(RevokeConsent)
PLACED_ORDER: Final = TypeAdapter(PlacedOrder)
PLACED_ORDERS: Final = TypeAdapter(list[PlacedOrder])
FAMILIES: Final = TypeAdapter(list[Family])
TOKEN_RECORD: Final = TypeAdapter(TokenRecord)
