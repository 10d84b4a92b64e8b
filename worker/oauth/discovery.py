"""Asking an issuer for its endpoints (RFC 8414, OpenID Connect Discovery 1.0), to be written down and compared.

Nothing here changes where a request goes: a token endpoint that moved is reported, and the operator decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import httpx

from worker.oauth.answer_path import is_storable
from worker.oauth.exchange import UnansweredError, exchange
from worker.oauth.provider import Provider
from worker.oauth.provider_values import check_endpoint
from worker.oauth.route import Route, allowed
from worker.oauth.token_answer import HttpAnswer, read_object
from worker.oauth.token_request import TokenRequest

#: Seconds for one request for metadata: a person waits for it.
DISCOVERY_SECONDS: Final = 10.0
_ENDPOINTS: Final = ("authorization_endpoint", "token_endpoint", "revocation_endpoint", "introspection_endpoint")
#: Nobody offers so many ways to authenticate.
_MOST_METHODS: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovered:
    """What an issuer says of itself; what it does not say, or says in a way that could not be used, is left out."""

    issuer: str
    endpoints: Mapping[str, str]
    client_auth_methods: tuple[str, ...] = ()
    is_s256_supported: bool | None = None
    promises_iss: bool = False  #: each redirect carries `iss` (RFC 9207 section 3)
    unusable: Mapping[str, str] = field(default_factory=dict)  #: by endpoint: why it could not be used


@dataclass(frozen=True, slots=True, kw_only=True)
class NotDiscovered:
    """An issuer that could not be asked, or whose answer is not its own."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One fact that is written down differently from what the issuer says now; an empty side says nothing of it."""

    key: str
    pinned: str | None
    found: str


async def discover(
    http: httpx.AsyncClient, issuer: str, *, allow_private_addresses: bool = False
) -> Discovered | NotDiscovered:
    """Ask an issuer for its metadata, at both places where it may stand. Raises nothing expected.

    Args:
        http: made by `create_http_client`.
        issuer: an http(s) URL without placeholders.
        allow_private_addresses: as the provider's facts say.

    """
    whys: list[str] = []
    for url in metadata_urls(issuer):
        request = TokenRequest(
            url=url,
            headers={},
            content=b"",
            secrets=(),
            endpoint=url,
            method="GET",
            route=Route(addresses=allowed(issuer, private=allow_private_addresses)),
        )
        try:
            answer = await exchange(http, request, DISCOVERY_SECONDS)
        except UnansweredError:
            return NotDiscovered(why=f"{urlsplit(url).netloc} could not be reached")
        found = read_metadata(answer, issuer)
        if isinstance(found, Discovered):
            return found
        whys.append(found.why)
    return NotDiscovered(why="; ".join(dict.fromkeys(whys)))


def metadata_urls(issuer: str) -> tuple[str, ...]:
    """Return where an issuer's metadata may stand: OpenID Connect Discovery section 4, RFC 8414 section 3."""
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")
    return tuple(
        urlunsplit((parts.scheme, parts.netloc, place, "", ""))
        for place in dict.fromkeys(
            (
                f"{path}/.well-known/openid-configuration",
                f"/.well-known/oauth-authorization-server{path}",
                f"/.well-known/openid-configuration{path}",
            )
        )
    )


def read_metadata(answer: HttpAnswer, issuer: str) -> Discovered | NotDiscovered:
    """Read an issuer's metadata; it must name the very issuer that was asked (RFC 8414 section 3.3)."""
    fields = read_object(answer) if answer.status == 200 else None  # noqa: PLR2004 -- RFC 8414 section 3.2
    if fields is None:
        return NotDiscovered(why=f"there is no metadata (status {answer.status})")
    named = fields.get("issuer")
    if named != issuer:
        shown = f"{named!r}" if isinstance(named, str) and len(named) <= 200 else "nobody"  # noqa: PLR2004 -- a line
        return NotDiscovered(why=f"the metadata names {shown} as its issuer, and not {issuer!r}")
    endpoints: dict[str, str] = {}
    unusable: dict[str, str] = {}
    for key in _ENDPOINTS:
        url = fields.get(key)
        if isinstance(url, str):
            try:
                endpoints[key] = check_endpoint(url)
            except ValueError as error:
                unusable[key] = str(error)
    challenges = fields.get("code_challenge_methods_supported")
    return Discovered(
        issuer=issuer,
        endpoints=endpoints,
        client_auth_methods=_texts(fields, "token_endpoint_auth_methods_supported"),
        is_s256_supported="S256" in challenges if isinstance(challenges, list) else None,
        promises_iss=fields.get("authorization_response_iss_parameter_supported") is True,
        unusable=unusable,
    )


def changed(pinned: Provider, found: Discovered) -> tuple[Change, ...]:
    """Return each endpoint of which the issuer now says something else than what is written down, or something new."""
    return tuple(
        Change(key=key, pinned=getattr(pinned, key), found=url)
        for key, url in found.endpoints.items()
        if getattr(pinned, key) != url
    )


def _texts(fields: Mapping[str, Any], key: str) -> tuple[str, ...]:
    found = fields.get(key)
    values = found[:_MOST_METHODS] if isinstance(found, list) else ()
    return tuple(value for value in values if isinstance(value, str) and len(value) <= 100 and is_storable(value))  # noqa: PLR2004 -- a registered name is short
