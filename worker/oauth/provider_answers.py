"""Where a provider's answers keep what RFC 6749 section 5.1 puts at the top."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, model_validator

from worker.oauth.provider_values import STRICT, FieldPath, FieldPaths, Parameter, one_or_many

#: The names under which providers tell how long a refresh token lives.
REFRESH_LIFETIME_NAMES: Final = ("refresh_token_expires_in", "refresh_expires_in", "x_refresh_token_expires_in")


class Success(BaseModel):
    """`success` in an answer's table: what tells a success from an error that came with status 200."""

    model_config = STRICT

    field: FieldPath
    equals: Annotated[tuple[Parameter, ...], BeforeValidator(one_or_many)] = ()  #: any of them
    absent: bool = False  #: the field must not be there, or be null

    @model_validator(mode="after")
    def _says_one_thing(self) -> Success:
        if bool(self.equals) == self.absent:
            message = "needs either equals, such as equals = true, or absent = true"
            raise ValueError(message)
        return self


class Answer(BaseModel):
    """`[providers.NAME.answer]`. Token fields are looked for under `path`, everything else from the answer's top."""

    model_config = STRICT

    path: FieldPath | None = None  #: the member that the tokens are wrapped in
    success: Success | None = None
    access_token: FieldPath = "access_token"  # noqa: S105 -- where one stands
    refresh_token: FieldPath = "refresh_token"  # noqa: S105 -- where one stands
    expires_in: FieldPaths = ("expires_in",)
    expires_in_unit: Literal["s", "ms", "min", "h"] = "s"
    expires_at: FieldPaths = ()  #: an instant: ISO 8601, or seconds or milliseconds since 1970
    expires_from_jwt: bool = False  #: the access token is a JWT whose `exp` counts
    refresh_expires_in: FieldPaths = REFRESH_LIFETIME_NAMES
    refresh_expires_at: FieldPaths = ()
    scope: FieldPath = "scope"
    account: FieldPath | None = None  #: who consented, in the provider's words
    capture: dict[str, FieldPath] = {}  #: what to keep: our name for it, and where it stands
