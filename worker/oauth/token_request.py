"""Requests to a provider's endpoints, built without sending: parameters, encoding and client authentication."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal

from worker.domain.secret import Secret
from worker.oauth.client import Client
from worker.oauth.client_authentication import Stamp, authenticate
from worker.oauth.provider_steps import RequestEncoding, Step, TokenStep, ToolStep
from worker.oauth.request_encoding import encode
from worker.oauth.request_values import (
    NothingToRefreshError,
    filled_headers,
    filled_parameters,
    filled_url,
    request_values,
)
from worker.oauth.route import Route, route

#: For the requests that are not signed, and so need neither time nor chance.
NO_STAMP: Final = Stamp(at=datetime(1970, 1, 1, tzinfo=UTC), jti="")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """A request ready to be sent. Its address, headers and body may hold secrets."""

    url: str
    headers: Mapping[str, str]
    content: bytes
    secrets: tuple[Secret, ...]  #: what went into it, so that nothing read from the answer repeats it
    endpoint: str  #: the address as configured, which holds none
    method: str = "POST"
    route: Route = field(default_factory=Route)

    def __repr__(self) -> str:
        return f"TokenRequest(url={self.endpoint!r}, ***)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a request needs beside the client and its token: what belongs to the grant, and time and chance."""

    access_token: Secret | None = None
    captured: Mapping[str, str] = field(default_factory=dict)
    stamp: Stamp = NO_STAMP


_NOTHING: Final = Given()


def refresh_request(
    client: Client, refresh_token: Secret, client_secret: Secret | None, given: Given = _NOTHING
) -> TokenRequest:
    """Build the refresh request (RFC 6749 section 6), or what this provider has in its place.

    Raises:
        UnfilledError: when the provider's facts ask for a value that there is none of.
        NothingToRefreshError: when the provider has no such request.

    """
    if not client.provider.facts.is_refreshed:
        raise NothingToRefreshError(client.provider.name)
    step = client.provider.refresh
    parameters = {"grant_type": "refresh_token", "refresh_token": refresh_token.reveal()}
    plan = _token_plan(client, "refresh", step, parameters, _presented(client, refresh_token, given))
    return _request(client, plan, client_secret, given)


def code_request(
    client: Client, code: Secret, code_verifier: Secret | None, client_secret: Secret | None, given: Given = _NOTHING
) -> TokenRequest:
    """Build the code exchange (RFC 6749 section 4.1.3), with the PKCE verifier where one was made (RFC 7636).

    Raises:
        UnfilledError: when the provider's facts ask for a value that there is none of.

    """
    parameters = {
        "grant_type": "authorization_code",
        "code": code.reveal(),
        "redirect_uri": client.redirect_uri,
    }
    if code_verifier is not None:
        parameters["code_verifier"] = code_verifier.reveal()
    secrets = {"code": code, "code_verifier": code_verifier}
    plan = _token_plan(client, "code", client.provider.code, parameters, secrets)
    return _request(client, plan, client_secret, given)


def upgrade_request(
    client: Client, step: TokenStep, access_token: Secret, client_secret: Secret | None, given: Given = _NOTHING
) -> TokenRequest:
    """Build the exchange of the short-lived access token that a code brought for one that can be kept alive.

    Raises:
        UnfilledError: when the provider's facts ask for a value that there is none of.

    """
    plan = _token_plan(client, "upgrade", step, {}, {"access_token": access_token})
    return _request(client, plan, client_secret, given)


def revocation_request(
    client: Client, url: str, refresh_token: Secret, client_secret: Secret | None, given: Given = _NOTHING
) -> TokenRequest:
    """Build the revocation of a refresh token (RFC 7009 section 2.1), or what this provider has in its place.

    Raises:
        UnfilledError: when the provider's facts ask for a value that there is none of.

    """
    plan = _tool_plan(client, "revoke", url, refresh_token, given)
    return _request(client, plan, client_secret, given)


def introspection_request(
    client: Client, url: str, refresh_token: Secret, client_secret: Secret | None, given: Given = _NOTHING
) -> TokenRequest:
    """Build the question whether a refresh token is still good, without presenting it (RFC 7662 section 2.1).

    Raises:
        UnfilledError: when the provider's facts ask for a value that there is none of.

    """
    plan = _tool_plan(client, "introspect", url, refresh_token, given)
    return _request(client, plan, client_secret, given)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """One step's request, before it is filled in: what RFC 6749 and its kin say it is, and what the provider says."""

    name: str
    step: TokenStep | ToolStep
    endpoint: str
    encoding: RequestEncoding
    parameters: Mapping[str, str]
    secrets: Mapping[str, Secret | None]  #: by the name under which templates may ask for them


def _tool_plan(
    client: Client, name: Literal["revoke", "introspect"], url: str, refresh_token: Secret, given: Given
) -> _Plan:
    step = client.provider.revoke if name == "revoke" else client.provider.introspect
    return _Plan(
        name=name,
        step=step,
        endpoint=url,
        # Both RFCs know form bodies only, whatever the token endpoint wants.
        encoding=step.encoding or RequestEncoding.FORM,
        parameters={"token": refresh_token.reveal(), "token_type_hint": "refresh_token"},
        secrets=_presented(client, refresh_token, given),
    )


def _token_plan(
    client: Client, name: str, step: TokenStep, parameters: Mapping[str, str], secrets: Mapping[str, Secret | None]
) -> _Plan:
    return _Plan(
        name=name,
        step=step,
        endpoint=step.endpoint or client.provider.token_endpoint or "",
        encoding=step.encoding or client.provider.token_request_encoding,
        parameters=parameters,
        secrets=secrets,
    )


def _presented(client: Client, refresh_token: Secret, given: Given) -> dict[str, Secret | None]:
    # Where the access token itself is exchanged, it is what was stored as the refresh token.
    access_token = refresh_token if client.provider.presents_access_token else given.access_token
    return {"refresh_token": refresh_token, "access_token": access_token}


def _request(client: Client, plan: _Plan, client_secret: Secret | None, given: Given) -> TokenRequest:
    provider, step = client.provider, plan.step
    values = request_values(client, given.captured, **plan.secrets)
    url = filled_url(plan.endpoint, values, f"{plan.name}.endpoint")
    auth = step.client_auth or provider.client_auth
    audience = provider.assertion_audience or url
    credentials = authenticate(client, auth, client_secret, audience=audience, stamp=given.stamp)
    wanted = {name: value for name, value in step.params.items() if name not in step.omit}
    parameters = {
        **_protocol(client, step, {**plan.parameters, **credentials.parameters}),
        **filled_parameters(wanted, values, f"{plan.name}.params"),
    }
    headers = {
        **filled_headers(provider.headers, values, "headers"),
        **filled_headers(step.headers, values, f"{plan.name}.headers"),
        **credentials.headers,
    }
    encoded = encode(plan.encoding if step.method == "POST" else RequestEncoding.QUERY, parameters)
    secrets = (*(secret for secret in plan.secrets.values() if secret is not None), *credentials.secrets)
    return TokenRequest(
        url=f"{url}{'&' if '?' in url else '?'}{encoded.query}" if encoded.query else url,
        headers=headers | ({"Content-Type": encoded.content_type} if encoded.content_type else {}),
        content=encoded.content,
        secrets=tuple(dict.fromkeys(secrets)),
        endpoint=plan.endpoint,
        method=step.method,
        route=route(client, plan.endpoint, auth),
    )


def _protocol(client: Client, step: Step, parameters: dict[str, str]) -> dict[str, str]:
    """Return the protocol's own parameters as this provider has them: renamed, left out, with the client's name."""
    in_body = step.client_id_in_body if step.client_id_in_body is not None else client.provider.client_id_in_body
    if in_body is True:
        parameters["client_id"] = client.client_id
    elif in_body is False:
        parameters.pop("client_id", None)
    return {step.rename.get(name, name): value for name, value in parameters.items() if name not in step.omit}
