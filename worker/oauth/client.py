"""A client: our registration at a provider, as configuration writes it and as the rest of the code uses it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from worker.domain.address import is_address
from worker.domain.allowance import ClientLimits
from worker.domain.facts import Keep
from worker.domain.reconsent import MailMode
from worker.domain.secret import Secret
from worker.oauth.provider import Provider
from worker.oauth.provider_values import STRICT, Endpoint, Rate

#: JWS algorithms that sign a client assertion, RFC 7518 section 3.1 and RFC 8037; the key's own is the default.
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
#: Half of one worker's window, so that one slow provider leaves room for the others.
DEFAULT_MAX_IN_FLIGHT: Final = 100


def _references(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _address(text: str) -> str:
    if not is_address(text):
        message = "is not an e-mail address"
        raise ValueError(message)
    return text


class ClientEntry(BaseModel):
    """`[clients.NAME]` as written: secrets are references (`env:NAME`, `file:/path`), never values."""

    model_config = STRICT

    provider: str
    client_id: Annotated[str, Field(min_length=1)]
    client_secret: Annotated[tuple[str, ...], BeforeValidator(_references)] = ()
    redirect_uri: Endpoint | None = None
    return_urls: tuple[Endpoint, ...] = ()  #: where owners go on to; the first is the default
    scopes: tuple[str, ...] = ()
    keep: Keep = Keep.ACCESS
    placeholders: dict[str, str] = {}  #: what this client fills into the provider's `{placeholders}`
    private_key: str | None = None  #: PEM; signs client assertions, or goes with the certificate
    key_id: str | None = None  #: `kid` of the private key, as the provider knows it
    signing_algorithm: Algorithm | None = None
    certificate: str | None = None  #: PEM; for mutual TLS, and named in client assertions by its SHA-256
    rate: Rate | None = None
    max_in_flight: Annotated[int, Field(ge=1, le=100_000)] = DEFAULT_MAX_IN_FLIGHT
    display_name: str | None = None  #: for owners, in mails and on pages; the provider's where there is none
    reconsent_mails: MailMode = MailMode.AUTO
    #: Who is mailed about a grant whose owner's address is not known.
    fallback_recipients: Annotated[
        tuple[Annotated[str, AfterValidator(_address)], ...], BeforeValidator(_references)
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientKey:
    """What a client proves itself with instead of a secret that is sent: RFC 7523, RFC 8705."""

    private_key: Secret  #: PEM
    certificate: str | None = None  #: PEM, with what it was issued by behind it
    key_id: str | None = None
    algorithm: Algorithm | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One registration at one provider, its secrets resolved; the first secret is tried first."""

    name: str
    provider: Provider
    client_id: str
    client_secrets: tuple[Secret, ...]
    redirect_uri: str
    return_urls: tuple[str, ...] = ()
    scopes: tuple[str, ...]
    keep: Keep
    placeholders: Mapping[str, str] = field(default_factory=dict)  #: the operator's, checked
    key: ClientKey | None = None
    limits: ClientLimits
    display_name: str
    reconsent_mails: MailMode = MailMode.AUTO
    fallback_recipients: tuple[str, ...] = ()
