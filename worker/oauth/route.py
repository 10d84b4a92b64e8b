"""How a request reaches its server: to which addresses it may go, and with which certificate."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache

from worker.domain.loopback import is_loopback
from worker.oauth.client import Client, ClientKey
from worker.oauth.provider_steps import ClientAuth
from worker.oauth.provider_values import split_url


class Addresses(Enum):
    """Which addresses a connection may be made to."""

    PUBLIC = auto()
    LOOPBACK_TOO = auto()  #: the configured URL names this machine itself
    ANY = auto()  #: the provider's facts say `allow_private_addresses`


@dataclass(frozen=True, slots=True)
class Route:
    """Requests of one route share their connections; those of different routes never do."""

    addresses: Addresses = Addresses.PUBLIC
    key: ClientKey | None = None  #: whose certificate is shown (RFC 8705)


def route(client: Client, url: str, method: ClientAuth) -> Route:
    """Return the route of a request to an address of a client's provider."""
    return Route(
        addresses=allowed(url, private=client.provider.allow_private_addresses),
        key=client.key if method.needs_certificate else None,
    )


@lru_cache(maxsize=4096)  # asked for every request, of the same few configured addresses
def allowed(url: str, *, private: bool) -> Addresses:
    """Return which addresses a URL may lead to; what it is meant to lead to is judged by the URL as configured."""
    if private:
        return Addresses.ANY
    parts = split_url(url)
    return Addresses.LOOPBACK_TOO if parts is not None and is_loopback(parts.hostname) else Addresses.PUBLIC
