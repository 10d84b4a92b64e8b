"""The words for what kind of provider it is: how it refreshes, what its revocation ends, how much it takes."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, Field

from worker.oauth.provider_values import STRICT, Rate


class Style(StrEnum):
    """How a provider's access tokens are kept fresh."""

    REFRESH_TOKEN = "refresh_token"  # noqa: S105 -- a word of RFC 6749, not a password
    TOKEN_EXCHANGE = "token_exchange"  # noqa: S105 -- a word of ours: the access token itself is presented (Meta)
    NO_REFRESH = "no_refresh"  #: it does not end, and there is nothing to refresh


class Revocation(StrEnum):
    """What ends when a refresh token is revoked (RFC 7009 section 2.1 leaves it to the server)."""

    TOKEN = "token"  # noqa: S105 -- a word of ours: this token alone
    GRANT = "grant"  #: everything that came of the same consent


class Pkce(StrEnum):
    """Whether the authorization endpoint takes a PKCE challenge (RFC 7636)."""

    REQUIRED = "required"
    SUPPORTED = "supported"
    OFF = "off"


class Limits(BaseModel):
    """`[providers.NAME.limits]`: how much the provider takes."""

    model_config = STRICT

    refreshes_per_client: Rate | None = None  #: taken as `rate` by clients that set none
    refreshes_per_grant: Rate | None = None  #: a grant is not due again before this allows it
    live_refresh_tokens: Annotated[int | None, Field(ge=1)] = (
        None  #: per owner and client; the oldest ends without a word
    )
