"""The steps of a provider's protocol, and in what each differs from RFC 6749."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import Final, Literal, Self

from pydantic import BaseModel, model_validator

from worker.oauth.complaints import nearest
from worker.oauth.provider_answers import Answer
from worker.oauth.provider_values import STRICT, EndpointTemplate, FieldPath, Headers, Parameters

#: The parameters that requests have by the RFCs; only these can be renamed.
_BUILT_IN: Final = (
    *(
        "response_type",
        "client_id",
        "redirect_uri",
        "scope",
        "state",
        "nonce",
        "code_challenge",
        "code_challenge_method",
    ),
    *("grant_type", "code", "code_verifier", "refresh_token", "client_secret"),
    *("client_assertion", "client_assertion_type", "token", "token_type_hint"),
)


class ClientAuth(StrEnum):
    """Client authentication at the token endpoint: IANA's values (RFC 6749 section 2.3, RFC 8414 section 2)."""

    CLIENT_SECRET_BASIC = "client_secret_basic"  # noqa: S105 -- the registered name of a method
    CLIENT_SECRET_POST = "client_secret_post"  # noqa: S105 -- the registered name of a method
    PRIVATE_KEY_JWT = "private_key_jwt"  #: RFC 7523 section 2.2
    TLS_CLIENT_AUTH = "tls_client_auth"  #: RFC 8705 section 2.1
    SELF_SIGNED_TLS_CLIENT_AUTH = "self_signed_tls_client_auth"  #: RFC 8705 section 2.2
    #: A word of ours: HTTP Basic with the secret as user name and no password (Stripe Apps).
    SECRET_AS_BASIC_USER = "secret_as_basic_user"  # noqa: S105 -- a word of ours
    NONE = "none"

    @property
    def needs_secret(self) -> bool:
        """Whether a client has a secret for it."""
        return self in {self.CLIENT_SECRET_BASIC, self.CLIENT_SECRET_POST, self.SECRET_AS_BASIC_USER}

    @property
    def needs_private_key(self) -> bool:
        """Whether a client signs for it."""
        return self is self.PRIVATE_KEY_JWT

    @property
    def needs_certificate(self) -> bool:
        """Whether a client shows a certificate for it."""
        return self in {self.TLS_CLIENT_AUTH, self.SELF_SIGNED_TLS_CLIENT_AUTH}


class RequestEncoding(StrEnum):
    """How an endpoint wants its parameters."""

    FORM = "form"
    JSON = "json"
    QUERY = "query"


class _Request(BaseModel):
    """In what the parameters of a request differ from the RFC's."""

    model_config = STRICT

    params: Parameters = {}  #: more parameters; one with the name of a built-in parameter replaces it
    rename: dict[str, str] = {}  #: a built-in parameter's name, and what this provider calls it
    omit: tuple[str, ...] = ()  #: parameters that are left out

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        for key, names in (("rename", self.rename), ("omit", self.omit)):
            for name in names:
                if name not in _BUILT_IN and name not in self.params:
                    message = f"{key}: there is no parameter {name!r}{nearest(name, _BUILT_IN)}"
                    raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _names_are_distinct(self) -> Self:
        called = Counter([*self.rename.values(), *(name for name in self.params if name not in self.rename)])
        for name in self.rename.values():
            if called[name] > 1:
                message = f"rename: two parameters would be called {name!r}, and one of them lost"
                raise ValueError(message)
        return self


class AuthorizeStep(_Request):
    """`[providers.NAME.authorize]`: the authorization request (RFC 6749 section 4.1.1)."""

    space_encoding: Literal["%20", "+"] = "%20"


class Redirect(BaseModel):
    """`[providers.NAME.redirect]`: what the browser brings back (RFC 6749 section 4.1.2)."""

    model_config = STRICT

    code: str = "code"  #: the parameter that holds the code
    capture: dict[str, str] = {}  #: what to keep: our name for it, and the parameter
    account: str | None = None  #: the parameter that says whose data the consent is for, where nothing better does


class Step(_Request):
    """What a request to one of the provider's endpoints may differ in."""

    encoding: RequestEncoding | None = None  #: `token_request_encoding` if unset
    client_auth: ClientAuth | None = None  #: `client_auth` of the provider if unset
    client_id_in_body: bool | None = None  #: `client_id_in_body` of the provider if unset
    headers: Headers = {}


class TokenStep(Step):
    """`[providers.NAME.code]`, `.refresh` and `.upgrade`: one request for tokens."""

    endpoint: EndpointTemplate | None = None  #: `token_endpoint` if unset
    method: Literal["POST", "GET"] = "POST"
    answer: Answer | None = None  #: instead of `[providers.NAME.answer]`, for this step


class ToolStep(Step):
    """`[providers.NAME.revoke]` and `.introspect`: RFC 7009 and RFC 7662, or what stands in their place."""

    method: Literal["POST", "GET", "DELETE"] = "POST"


class UserinfoStep(BaseModel):
    """`[providers.NAME.userinfo]`: OpenID Connect's UserInfo request, or what stands in its place."""

    model_config = STRICT

    method: Literal["GET", "POST"] = "GET"
    params: Parameters = {}  #: in the query of a GET, in the form of a POST
    headers: Headers = {}
    account: FieldPath = "sub"  #: where the owner's id stands in the answer
