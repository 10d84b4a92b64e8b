"""A provider's facts, as configuration writes them and validation holds them.

A fact that is not set is unknown; nothing here guesses one. What differs from RFC 6749 stands in sub-tables, so that a
provider that keeps to it needs its two endpoints and no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from functools import cached_property
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from worker.domain.facts import DEFAULT_STRIKE_INTERVAL, DEFAULT_STRIKES, Anchor, OldToken, Rotation, TokenFacts
from worker.domain.loopback import is_loopback
from worker.oauth.addresses import is_private_literal
from worker.oauth.placeholders import Placeholder, Source, Template, fill, fits, names_in, undeclared
from worker.oauth.provider_answers import Answer
from worker.oauth.provider_errors import ErrorOutcome, ErrorRule
from worker.oauth.provider_kinds import Limits, Pkce, Revocation, Style
from worker.oauth.provider_steps import (
    AuthorizeStep,
    ClientAuth,
    Redirect,
    RequestEncoding,
    TokenStep,
    ToolStep,
    UserinfoStep,
)
from worker.oauth.provider_values import (
    STRICT,
    Duration,
    EndpointTemplate,
    Headers,
    Parameters,
    Pattern,
    RequestTime,
    one_or_many,
)

#: What a parameter may name in braces beside the provider's own placeholders.
REQUEST_VALUES: Final = frozenset({"scope", "redirect_uri", "access_token", "refresh_token", "client_id", "code"})
#: What a parameter of the authorization request may name besides: whom we expect to come.
OWNER_VALUES: Final = frozenset({"subject", "email"})
#: What an address may name: RFC 7009's stand-ins put the token there.
_TOOL_VALUES: Final = frozenset({"refresh_token", "access_token"})
#: The endpoints that we call ourselves; the browser calls the authorization endpoint.
_CALLED: Final = ("token_endpoint", "revocation_endpoint", "introspection_endpoint", "userinfo_endpoint")
_STEPS: Final = ("code", "upgrade", "refresh")


class Provider(BaseModel):
    """An authorization server and its facts."""

    model_config = STRICT

    name: str
    display_name: str | None = None
    authorization_endpoint: EndpointTemplate | None = None
    token_endpoint: EndpointTemplate | None = None
    revocation_endpoint: EndpointTemplate | None = None
    revocation: Revocation | None = None
    introspection_endpoint: EndpointTemplate | None = None  #: only where refresh tokens are introspected (RFC 7662)
    userinfo_endpoint: EndpointTemplate | None = None  #: asked who has consented, with the new access token
    issuer: EndpointTemplate | None = None
    issuer_pattern: Pattern | None = None  #: further issuers that it may call itself: one for each tenant (Microsoft)
    authorization_response_iss_parameter_supported: bool = False  #: each redirect carries `iss` (RFC 9207 section 3)
    placeholders: dict[str, Placeholder] = {}
    style: Style = Style.REFRESH_TOKEN
    token_request_encoding: RequestEncoding = RequestEncoding.FORM
    client_auth: ClientAuth = ClientAuth.CLIENT_SECRET_BASIC
    client_id_in_body: bool | None = None  #: as the method of client authentication has it if unset
    assertion_audience: EndpointTemplate | None = None  #: `aud` of a client assertion; the token endpoint if unset
    headers: Headers = {}  #: go along with every request of ours
    scope_separator: Literal[" ", ","] = " "
    pkce: Pkce | None = None
    authorize_params: dict[str, str] = {}  #: the short way to write `authorize.params`
    authorize: AuthorizeStep = AuthorizeStep()
    redirect: Redirect = Redirect()
    code: TokenStep = TokenStep()
    upgrade: TokenStep | None = None  #: a second exchange, of the short-lived token that a code brings (Instagram)
    refresh: TokenStep = TokenStep()
    revoke: ToolStep = ToolStep()
    introspect: ToolStep = ToolStep()
    userinfo: UserinfoStep = UserinfoStep()
    answer: Answer = Answer()
    errors: tuple[ErrorRule, ...] = ()
    rotation: Rotation | None = None
    old_token: OldToken | None = None
    reuse_grace: Duration | None = None
    reuse_revokes_family: bool | None = None
    access_lifetime: Duration | None = None
    refresh_lifetime: Duration | None = None
    refresh_lifetime_anchor: Anchor | None = None  #: `consent` if a lifetime is set and this is not
    refresh_idle_timeout: Duration | None = None
    earliest_margin: Duration | None = None
    latest_margin: Duration | None = None
    limits: Limits = Limits()
    strikes: Annotated[int, Field(ge=1, le=10)] = DEFAULT_STRIKES
    strike_interval: Duration = DEFAULT_STRIKE_INTERVAL
    request_timeout: RequestTime = timedelta(seconds=20)
    allow_private_addresses: bool = False
    unknown: tuple[Literal["authorization_endpoint", "token_endpoint"], ...] = ()  #: nobody has established it
    inferred: tuple[str, ...] = ()  #: keys that rest on a guess of somebody else's, not on a word of the provider
    checked: date | None = None  #: when the facts were last compared with their sources
    sources: tuple[str, ...] = ()  #: where the facts come from, and when they were checked
    notes: Annotated[tuple[str, ...], BeforeValidator(one_or_many)] = ()

    @model_validator(mode="before")
    @classmethod
    def _short_way_is_the_long_way(cls, table: Any) -> Any:  # noqa: ANN401 -- whatever the configuration holds
        short, step = (table.get("authorize_params"), table.get("authorize", {})) if isinstance(table, dict) else (0, 0)
        if not isinstance(short, dict) or not isinstance(step, dict) or not isinstance(step.get("params", {}), dict):
            return table  # validation says what is wrong
        return {**table, "authorize": {**step, "params": {**short, **step.get("params", {})}}}

    @model_validator(mode="after")
    def _grace_has_a_length(self) -> Provider:
        if self.old_token is OldToken.GRACE and self.reuse_grace is None:
            message = 'old_token = "grace" needs reuse_grace, such as reuse_grace = "30s"'
            raise ValueError(message)
        if self.reuse_grace is not None and self.old_token is not OldToken.GRACE:
            message = 'reuse_grace only goes with old_token = "grace"'
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _has_endpoints(self) -> Provider:
        found = {
            "authorization_endpoint": self.authorization_endpoint,
            "token_endpoint": self.token_endpoint or self.refresh.endpoint,
        }
        for key, endpoint in found.items():
            if endpoint is None and key not in self.unknown and self.issuer is None:
                message = f"{key} is missing"
                raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _issuer_is_known(self) -> Provider:
        for key in ("issuer_pattern", "authorization_response_iss_parameter_supported"):
            if getattr(self, key) and self.issuer is None:
                message = f"{key} needs issuer: it is what `iss` is compared with"
                raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _margins_leave_a_window(self) -> Provider:
        if self.earliest_margin and self.latest_margin and self.latest_margin >= self.earliest_margin:
            message = "latest_margin must be shorter than earliest_margin: both count back from the access token's end"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _placeholders_are_declared(self) -> Provider:
        problem = undeclared(self._templates(), self.placeholders, REQUEST_VALUES)
        if problem is not None:
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _private_addresses_are_allowed(self) -> Provider:
        for key, endpoint in self._endpoints():
            host = urlsplit(endpoint).hostname
            private = is_private_literal(host) and not is_loopback(host)
            if private and key != "authorization_endpoint" and not self.allow_private_addresses:
                message = f"{key}: {host} is a private address; where it is meant, set allow_private_addresses = true"
                raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _inferred_keys_exist(self) -> Provider:
        for key in self.inferred:
            if key.partition(".")[0] not in type(self).model_fields:
                message = f"inferred: there is no key {key!r}"
                raise ValueError(message)
        return self

    def _endpoints(self) -> Iterator[tuple[str, str]]:
        """Yield the key and value of each address that is set."""
        for key in ("authorization_endpoint", *_CALLED, "issuer", "assertion_audience"):
            if (endpoint := getattr(self, key)) is not None:
                yield key, endpoint
        for step in _STEPS:
            settings: TokenStep | None = getattr(self, step)
            if settings is not None and settings.endpoint is not None:
                yield f"{step}.endpoint", settings.endpoint

    def _templates(self) -> Iterator[Template]:
        """Yield each text that may hold placeholders."""
        for key, endpoint in self._endpoints():
            known = _TOOL_VALUES if key == "revocation_endpoint" else frozenset[str]()
            yield Template(key=key, text=endpoint, known=known, is_address=True)
        for step in (None, "authorize", *_STEPS, "revoke", "introspect", "userinfo"):
            settings = self if step is None else getattr(self, step)
            for kind in ("headers", "params"):
                texts: Parameters = getattr(settings, kind, {})
                known = REQUEST_VALUES | OWNER_VALUES if step == "authorize" else REQUEST_VALUES
                for name, text in texts.items():
                    key = f"{kind}.{name}" if step is None else f"{step}.{kind}.{name}"
                    yield Template(key=key, text=str(text), known=known)

    def filled(self, values: Mapping[str, str]) -> Provider:
        """Return this provider with placeholders of its addresses filled in; those without a value stay."""
        if not values:
            return self
        filled: dict[str, object] = {}
        for key, endpoint in self._endpoints():
            step, _, _ = key.partition(".")
            if step in _STEPS:
                filled[step] = getattr(self, step).model_copy(update={"endpoint": fill(endpoint, values)})
            else:
                filled[key] = fill(endpoint, values)
        return self.model_copy(update=filled)

    def misfit(self, values: Mapping[str, str]) -> str | None:
        """Return the name of the first value that does not fit into an address, or None where all do."""
        for key, endpoint in self._endpoints():
            for name in names_in([endpoint]):
                if name in values and not fits(endpoint, name, values[name]):
                    return f"{name}, which stands in {key}"
        return None

    @cached_property
    def facts(self) -> TokenFacts:
        """Return what decisions need of these facts."""
        per_grant = self.limits.refreshes_per_grant
        idle, lifetime = self.refresh_idle_timeout, self.refresh_lifetime
        if self.refresh_lifetime_anchor is Anchor.ISSUE and lifetime is not None:
            # Each new refresh token has its own lifetime, so the grant ends only where none is used for so long.
            idle, lifetime = min(filter(None, (idle, lifetime))), None
        return TokenFacts(
            rotation=self.rotation,
            old_token=self.old_token,
            reuse_grace=self.reuse_grace,
            reuse_revokes_family=self.reuse_revokes_family,
            is_refreshed=self.style is not Style.NO_REFRESH,
            is_introspected=self.introspection_endpoint is not None,
            access_lifetime=self.access_lifetime,
            refresh_lifetime=lifetime,
            refresh_anchor=self.refresh_lifetime_anchor or (Anchor.CONSENT if lifetime else None),
            refresh_idle_timeout=idle,
            earliest_margin=self.earliest_margin,
            latest_margin=self.latest_margin,
            refresh_interval=timedelta(seconds=1 / per_grant) if per_grant else None,
            strikes=self.strikes,
            strike_interval=self.strike_interval,
        )

    @property
    def presents_access_token(self) -> bool:
        """Whether the access token itself is presented, and so stands where other providers have a refresh token."""
        return self.style is Style.TOKEN_EXCHANGE

    @property
    def has_token_endpoint(self) -> bool:
        """Whether it is known where a refresh goes."""
        return self.token_endpoint is not None or self.refresh.endpoint is not None

    @property
    def sends_pkce(self) -> bool:
        """Whether an authorization request carries a PKCE challenge."""
        return self.pkce in {Pkce.REQUIRED, Pkce.SUPPORTED}

    @cached_property
    def client_secret_codes(self) -> frozenset[str]:
        """The error codes that blame the client secret alone, so that the next secret may be tried."""
        own = (
            rule.value
            for rule in self.errors
            if rule.outcome is ErrorOutcome.MISCONFIGURED and rule.why.value == "invalid_client"
        )
        return frozenset({"invalid_client", *(str(value) for values in own for value in values)})

    @cached_property
    def captured_names(self) -> frozenset[str]:
        """The names of all that is kept of redirects and answers."""
        declared = (
            name for name, placeholder in self.placeholders.items() if placeholder.source is not Source.OPERATOR
        )
        return frozenset({*declared, *self.redirect.capture, *self.answer.capture})
