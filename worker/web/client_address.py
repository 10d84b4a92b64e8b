"""From where a request came: the machine at the other end, or the one that a proxy of ours says it speaks for."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, TypeAlias

from fastapi import Request

Network: TypeAlias = IPv4Network | IPv6Network

#: What proxies that nobody has named may write is not even read.
_HEADER: Final = "x-forwarded-for"


def client_address(request: Request, trusted: Sequence[Network]) -> str | None:
    """Return the address of the machine that a request came from.

    `X-Forwarded-For` is read from its end, for each proxy adds whom it was asked by; the first that is no proxy of ours
    is who asked. Without a proxy of ours it is not read at all, for anybody can write it.

    Args:
        request: the request.
        trusted: networks of our own proxies, `[web] trusted_proxies`.

    """
    found = request.client.host if request.client is not None else None
    hops = [hop.strip() for line in request.headers.getlist(_HEADER) for hop in line.split(",")]
    while found is not None and hops and _is_in(found, trusted):
        said = hops.pop()
        if _read(said) is None:
            break  # no address: the proxy itself is all that is known
        found = said
    return found


def is_from_unnamed_proxy(request: Request, trusted: Sequence[Network]) -> bool:
    """Tell whether a request names who it is from through a machine that is no proxy of ours.

    Args:
        request: the request.
        trusted: networks of our own proxies, `[web] trusted_proxies`.

    """
    peer = request.client.host if request.client is not None else None
    return _HEADER in request.headers and not (peer is not None and _is_in(peer, trusted))


def _is_in(address: str, networks: Sequence[Network]) -> bool:
    read = _read(address)
    return read is not None and any(read in network for network in networks)


def _read(address: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(address)
    except ValueError:
        return None
